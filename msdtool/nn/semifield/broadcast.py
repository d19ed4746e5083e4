"""Semifields whose sums are computed by broadcasting."""

import math
import operator
from functools import partial

from torch import nn

from msdtool.nn.semifield import functions
from msdtool.nn.semifield.conv import SemifieldConv
from msdtool.ops import semifield as ops


class BroadcastSemifield(ops.BroadcastOperations):
    r"""A semifield by torch functions that reduce whole tensors.

    Simple and general, but all terms of all sums are in memory at once: prefer `SelectSemifield`
    and `SubtractSemifield` where they offer the semifield you need.

    Args:
        add_reduce: (tensor, dims) -> the semifield sum of the tensor over these axes.
        multiply: (image, kernel) -> their semifield product, elementwise with broadcasting.
        zero: the semifield's zero; the image is padded with it.
        add_reduce_channels: (tensor, dim) -> another sum over the channels, after the taps have
            been summed by ``add_reduce``.
    """

    @classmethod
    def tropical_max(
        cls, channels_add: bool = False, spread_gradient: bool = False
    ) -> "BroadcastSemifield":
        r"""Make (R and -inf, max, +): a convolution is a dilation.

        Args:
            channels_add: sum the channels instead of taking their maximum.
            spread_gradient: divide the gradient equally among equal maxima instead of passing it to
                one of them.
        """
        reduce = functions.spread_max if spread_gradient else functions.reduce_max
        channels = functions.reduce_sum if channels_add else None
        return cls(reduce, operator.add, -math.inf, channels)

    @classmethod
    def tropical_min_negated(
        cls, channels_add: bool = False, spread_gradient: bool = False
    ) -> "BroadcastSemifield":
        r"""Make (R and inf, min, -): a convolution is the erosion by the kernel itself.

        Args:
            channels_add: sum the channels instead of taking their minimum.
            spread_gradient: divide the gradient equally among equal minima instead of passing it to
                one of them.
        """
        reduce = functions.spread_min if spread_gradient else functions.reduce_min
        channels = functions.reduce_sum if channels_add else None
        return cls(reduce, operator.sub, math.inf, channels)

    @classmethod
    def linear(cls) -> "BroadcastSemifield":
        """Make (R, +, *), the ordinary convolution; torch's own is much faster."""
        return cls(functions.reduce_sum, operator.mul, 0.0)

    @classmethod
    def root(cls, p: float) -> "BroadcastSemifield":
        """Make R_p, (R+, (a^p + b^p)^(1/p), *).

        The image is padded with float32's epsilon, so the sums at its border differ from those of
        `SubtractSemifield.root` by about (eps * kernel)^p. For p < 0 that padding would dominate
        every sum that includes it: use ``padding="valid"`` or `SubtractSemifield.root`.

        Raises:
            ValueError: p is 0.
        """
        functions.check_parameter("p", p)
        return cls(partial(functions.reduce_root, p=p), operator.mul, functions.ROOT_PADDING)

    @classmethod
    def log(cls, mu: float) -> "BroadcastSemifield":
        """Make L_mu, (R and +-inf, ln(e^(mu a) + e^(mu b)) / mu, +): a soft maximum or minimum.

        Raises:
            ValueError: mu is 0.
        """
        functions.check_parameter("mu", mu)
        return cls(partial(functions.reduce_log, mu=mu), operator.add, functions.log_zero(mu))

    def dynamic(self, unfold_copy: bool = False) -> nn.Module:
        """Make a convolution for `GenericConv`, for images of any size.

        Args:
            unfold_copy: copy the windows with `torch.nn.functional.unfold` first. The result is
                the same; 2D only.
        """
        compute = partial(ops.broadcast_conv, semifield=self, unfold_copy=unfold_copy)
        return SemifieldConv(compute, "BroadcastSemifield")
