"""Semifields whose sum can be undone term by term."""

import operator
from functools import partial

from msdtool.nn.semifield import functions
from msdtool.nn.semifield.terms import TermByTerm
from msdtool.ops import semifield as ops
from msdtool.ops.semifield.linear import (
    linear_by_linear,
    log_by_linear,
    root_by_linear,
    root_of_sum,
)


class SubtractSemifield(TermByTerm, ops.SubtractOperations):
    r"""A semifield whose sum can be undone term by term.

    Only input and output are kept for the backward pass, which removes each term from the sum to
    differentiate by it. All functions work elementwise on tensors.

    Args:
        add: (acc, val) -> their semifield sum.
        times: (img, kernel) -> their semifield product.
        d_times_d_img: (img, kernel) -> derivative of ``times`` by its first argument.
        d_times_d_kernel: (img, kernel) -> derivative of ``times`` by its second argument.
        subtract: (res, val) -> the acc for which ``add(acc, val)`` is res.
        d_add_d_right: (acc, val) -> derivative of ``add`` by its second argument.
        zero: the semifield's zero; the initial value of the sum.
        cache_name: semifields of the same name are equal.
        post_sum: acc -> result, applied once after the sum; the other functions see sums before it.
        undo_post_sum: result -> acc; required with ``post_sum``.
        d_post_d_acc: acc -> derivative of ``post_sum``; required with ``post_sum``.
        cuda: all functions as CUDA expressions by name, in ``acc``, ``val``, ``res``,
            ``img``, ``kernel`` and the number type ``real``. Without them, a GPU computes
            in torch.
        linear_form: (img, kernel, conv) -> the convolution by means of a linear one, ``conv(img,
            kernel)``; or None where that is inaccurate. Used on CPUs.
    """

    convolve = staticmethod(ops.subtract_conv)

    @classmethod
    def linear(cls) -> "SubtractSemifield":
        """Make (R, +, *), the ordinary convolution."""
        return cls(
            add=operator.add,
            times=operator.mul,
            d_times_d_img=functions.second,
            d_times_d_kernel=functions.first,
            subtract=operator.sub,
            d_add_d_right=functions.one,
            zero=0.0,
            cache_name="_linear",
            cuda={
                "times": "img * kernel",
                "d_times_d_img": "kernel",
                "d_times_d_kernel": "img",
                "add": "acc + val",
                "subtract": "res - val",
                "d_add_d_right": "1",
            },
            linear_form=linear_by_linear,
        )

    @classmethod
    def root(cls, p: float) -> "SubtractSemifield":
        """Make R_p, (R+, (a^p + b^p)^(1/p), *).

        The values must be positive; for positive p they may be 0. Powers of other values are NaN in
        general. The p-th powers and their sums must be within the range of the dtype. The gradient
        of a sum that is 0 is defined as 0.

        Raises:
            ValueError: p is 0.
        """
        functions.check_parameter("p", p)
        power = f"pow(img * kernel, real({p - 1!r}))"
        return cls(
            add=operator.add,
            times=partial(functions.power_of_product, p=p),
            d_times_d_img=partial(functions.d_power_d_img, p=p),
            d_times_d_kernel=partial(functions.d_power_d_kernel, p=p),
            subtract=operator.sub,
            d_add_d_right=functions.one,
            zero=0.0,
            cache_name=f"_root_{p}",
            post_sum=partial(root_of_sum, p=p),
            undo_post_sum=partial(functions.power, p=p),
            d_post_d_acc=partial(functions.d_root, p=p),
            cuda={
                "times": f"pow(img * kernel, real({p!r}))",
                "d_times_d_img": f"real({p!r}) * {power} * kernel",
                "d_times_d_kernel": f"real({p!r}) * {power} * img",
                "add": "acc + val",
                "subtract": "res - val",
                "d_add_d_right": "1",
                "post_sum": f"pow(acc, real({1 / p!r}))",
                "undo_post_sum": f"pow(res, real({p!r}))",
                "d_post_d_acc": f"acc == 0 ? real(0) : pow(acc, real({1 / p - 1!r})) / real({p!r})",
            },
            linear_form=partial(root_by_linear, p=p),
        )

    @classmethod
    def log(cls, mu: float) -> "SubtractSemifield":
        """Make L_mu, (R and +-inf, ln(e^(mu a) + e^(mu b)) / mu, +): a soft maximum or minimum.

        The larger mu, the closer it is to the maximum (for negative mu, the minimum). No
        exponential overflows, whatever the values.

        Raises:
            ValueError: mu is 0.
        """
        functions.check_parameter("mu", mu)
        factor, extreme = f"real({mu!r})", "fmax" if mu > 0 else "fmin"
        distance = f"real({-abs(mu)!r}) * fabs(acc - val)"
        share = f"exp({factor} * (val - res))"
        return cls(
            add=partial(functions.log_add, mu=mu),
            times=operator.add,
            d_times_d_img=functions.one,
            d_times_d_kernel=functions.one,
            subtract=partial(functions.log_subtract, mu=mu),
            d_add_d_right=partial(functions.log_share, mu=mu),
            zero=functions.log_zero(mu),
            cache_name=f"_log_{mu}",
            cuda={
                "times": "img + kernel",
                "d_times_d_img": "1",
                "d_times_d_kernel": "1",
                # Equal terms may both be infinite; their difference would be NaN.
                "add": f"{extreme}(acc, val) + "
                f"(acc == val ? log(real(2)) : log1p(exp({distance}))) / {factor}",
                "subtract": f"res + log1p(-{share}) / {factor}",
                "d_add_d_right": f"1 / (1 + exp({factor} * (acc - val)))",
            },
            linear_form=partial(log_by_linear, mu=mu),
        )
