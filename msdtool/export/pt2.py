"""Networks as programs of torch.export."""

import io
import warnings

import torch

from msdtool import strict_json
from msdtool.export.interface import INPUT, Interface
from msdtool.export.plain import PlainNetwork


def to_pt2(interface: Interface) -> bytes:
    """Return a file that torch.export.load reads.

    Batch and spatial axes may have any size that the network allows. The extra file "msdtool.json"
    holds what `Interface.to_dict` returns.

    Raises:
        ModelFileError: the weights do not fit the architecture.
    """
    network = PlainNetwork(interface).eval().requires_grad_(False)
    # Sizes of 0 and 1 would be taken for constants, and equal ones for related.
    space = [interface.smallest + 2 + axis for axis in range(len(interface.space))]
    example = torch.rand(2, interface.channels(INPUT), *space)
    dynamic = {
        0: torch.export.Dim("batch", min=1),
        **{
            axis: torch.export.Dim(name, min=interface.smallest)
            for axis, name in enumerate(interface.space, 2)
        },
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own use of what it deprecates
        program = torch.export.export(network, (example,), dynamic_shapes=({**dynamic},))
        buffer = io.BytesIO()
        content = strict_json.dumps(interface.to_dict())
        torch.export.save(program, buffer, extra_files={"msdtool.json": content})
    return buffer.getvalue()
