"""Names and arguments of the operators, as torch's library has them.

Each of the modules beside this one registers what it knows of them.
"""

import torch

_BLOCK = "Tensor input, Tensor[] weights, Tensor bias"
_OPTIONS = 'int[] dilations, str padding="symmetric", str impl="auto"'
_CALL = (
    f"{_BLOCK}, Tensor? final_weight, Tensor? final_bias, int[] dilations, str padding, str impl"
)

LIBRARY = torch.library.Library("msdtool", "DEF")
for _schema in (
    f"msd_block({_BLOCK}, {_OPTIONS}) -> Tensor",
    f"msd_module({_BLOCK}, Tensor final_weight, Tensor final_bias, {_OPTIONS}) -> Tensor",
    f"_network({_CALL}) -> Tensor",
    f"_record({_CALL}) -> Tensor[]",
    "_differentiate(Tensor grad_output, Tensor planes, Tensor[] weights, Tensor bias,"
    " Tensor? final_weight, SymInt[] size, int[] dilations, str padding, str impl, bool[] needed)"
    " -> Tensor[]",
):
    LIBRARY.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))

msd_block = torch.ops.msdtool.msd_block.default
msd_module = torch.ops.msdtool.msd_module.default
network = torch.ops.msdtool._network.default
record = torch.ops.msdtool._record.default
differentiate = torch.ops.msdtool._differentiate.default
