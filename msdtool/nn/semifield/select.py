"""Semifields whose sum is one of its terms."""

import math
import operator

from msdtool.nn.semifield import functions
from msdtool.nn.semifield.terms import TermByTerm
from msdtool.ops import semifield as ops


class SelectSemifield(TermByTerm, ops.SelectOperations):
    r"""A semifield whose sum is one of its terms, such as the maximum.

    The number of each winning term is kept for the backward pass (one byte per output value for up
    to 255 terms), which visits only the winners. All functions work elementwise on tensors.

    Args:
        add_select: (left, right) -> booleans, whether right replaces left. False where they are
            equal: the first of equal terms wins, and alone receives the gradient.
        times: (img, kernel) -> their semifield product.
        d_times_d_img: (img, kernel) -> derivative of ``times`` by its first argument.
        d_times_d_kernel: (img, kernel) -> derivative of ``times`` by its second argument.
        zero: the semifield's zero; the result where no term lies inside the image.
        cache_name: semifields of the same name are equal.
        cuda: the first four functions as CUDA expressions by name, in ``left``, ``right``, ``img``,
            ``kernel`` and the number type ``real``. Without them, a GPU computes in torch.
    """

    convolve = staticmethod(ops.select_conv)

    @classmethod
    def tropical_max(cls) -> "SelectSemifield":
        """Make (R and -inf, max, +): a convolution is a dilation."""
        return cls(
            add_select=operator.lt,
            times=operator.add,
            d_times_d_img=functions.one,
            d_times_d_kernel=functions.one,
            zero=-math.inf,
            cache_name="_tropical_max",
            cuda={
                "add_select": "left < right || right != right",  # NaN propagates
                "times": "img + kernel",
                "d_times_d_img": "1",
                "d_times_d_kernel": "1",
            },
        )

    @classmethod
    def tropical_min_negated(cls) -> "SelectSemifield":
        """Make (R and inf, min, -): a convolution is the erosion by the kernel itself."""
        return cls(
            add_select=operator.gt,
            times=operator.sub,
            d_times_d_img=functions.one,
            d_times_d_kernel=functions.minus_one,
            zero=math.inf,
            cache_name="_tropical_min",
            cuda={
                "add_select": "left > right || right != right",
                "times": "img - kernel",
                "d_times_d_img": "1",
                "d_times_d_kernel": "-1",
            },
        )
