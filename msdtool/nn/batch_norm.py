"""Batch normalisation over several processes; `msdtool.nn.encoding` exports these names."""

import warnings
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from msdtool.ops.layers.batch_norm import batch_norm


def _momentum(layer: _BatchNorm) -> float:
    """Return the batch's weight in the running statistics; without momentum, 1 / batches so far."""
    if layer.momentum is not None:
        return layer.momentum
    assert layer.num_batches_tracked is not None
    layer.num_batches_tracked.add_(1)
    return 1 / float(layer.num_batches_tracked)


class DistSyncBatchNorm(_BatchNorm):
    """Batch normalisation over the batches of all processes of a group.

    Works on the CPU (gloo) and on GPUs (nccl) under `torch.distributed`; if that is not
    initialised, over this process's batch alone. Every value counts once: the result for uneven
    batches is what one process would compute on all of them (the original averages the means of the
    processes, so a process with fewer images weighs too much). The running variance follows the
    biased variance, unlike that of `torch.nn.BatchNorm2d`. Under DistributedDataParallel, which
    averages gradients, losses are handled as with any other layer. `torch.nn.DataParallel` is not
    supported.

    Args:
        num_features: channels.
        eps: added to the variance.
        momentum: weight of the batch in the running statistics; None averages all batches.
        process_group: processes whose batches are pooled; None: all.

    State-dict names: ``weight``, ``bias``, ``running_mean``, ``running_var`` [num_features] and
    ``num_batches_tracked``, which stays 0 as in the original unless ``momentum`` is None.

    Reference: Ioffe & Szegedy, ICML 2015; Zhang et al., CVPR 2018.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum)
        self.process_group = process_group
        self.sync = True

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, num_features, *space] to the same shape.

        Raises:
            ValueError: the input has other channels, or in training only one value per channel.
        """
        if x.dim() < 2 or x.shape[1] != self.num_features:
            raise ValueError(
                f"input has shape {tuple(x.shape)}; expected [B, {self.num_features}, *space]"
            )
        mean, variance = self.running_mean, self.running_var
        assert mean is not None and variance is not None
        if not self.training:
            return F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)
        output, batch = batch_norm(x, self.weight, self.bias, self.eps, self._group())
        momentum = _momentum(self)
        mean.lerp_(batch.mean.to(mean), momentum)
        variance.lerp_(batch.variance.to(variance), momentum)
        return output

    def _group(self) -> dist.ProcessGroup | None:
        if not (self.sync and dist.is_initialized()):
            return None
        return self.process_group or dist.group.WORLD


class SyncBatchNorm(DistSyncBatchNorm):
    """A `DistSyncBatchNorm` of all processes, optionally followed by a leaky ReLU.

    Args:
        num_features, eps, momentum: as for `DistSyncBatchNorm`.
        sync: False normalises the batch of each process on its own.
        activation: "none" or "leaky_relu", in training and evaluation alike.
        slope: of the leaky ReLU below zero.
        inplace: overwrite the normalised values with the activation, which saves one tensor of
            that size.

    Raises:
        ValueError: there is no such activation, or the slope is negative.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        sync: bool = True,
        activation: str = "none",
        slope: float = 0.01,
        inplace: bool = True,
    ) -> None:
        if activation not in ("none", "leaky_relu"):
            raise ValueError(f"activation is {activation!r}; allowed: none, leaky_relu")
        if slope < 0:
            raise ValueError(f"slope is {slope}; expected 0 or more")
        super().__init__(num_features, eps, momentum)
        self.sync, self.activation = sync, activation
        self.slope, self.inplace = slope, inplace

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, num_features, *space] to the same shape; errors as in `DistSyncBatchNorm`."""
        output = super().forward(x)
        if self.activation == "none":
            return output
        return F.leaky_relu(output, self.slope, self.inplace)

    def extra_repr(self) -> str:
        """Describe it as torch's batch norms do, with the additional arguments."""
        return (
            f"{super().extra_repr()}, sync={self.sync}, act={self.activation}, "
            f"slope={self.slope}, inplace={self.inplace}"
        )


class EncodingDeprecationWarning(DeprecationWarning):
    """A name kept for old code."""


class _DeprecatedBatchNorm(SyncBatchNorm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn(
            f"encoding.nn.{type(self).__name__} is now deprecated in favor of "
            "encoding.nn.SyncBatchNorm.",
            EncodingDeprecationWarning,
            stacklevel=2,
        )
        super().__init__(*args, **kwargs)


class BatchNorm1d(_DeprecatedBatchNorm):
    """Deprecated: use `SyncBatchNorm`, which takes any number of axes."""


class BatchNorm2d(_DeprecatedBatchNorm):
    """Deprecated: use `SyncBatchNorm`, which takes any number of axes."""


class BatchNorm3d(_DeprecatedBatchNorm):
    """Deprecated: use `SyncBatchNorm`, which takes any number of axes."""


class _PooledBatchNorm(_BatchNorm):
    """A `torch.nn.BatchNorm1d`, 2d or 3d over the batches of all processes.

    Args:
        of_one: the layer that provides the parameters, statistics and options.
    """

    def __init__(self, of_one: _BatchNorm) -> None:
        super().__init__(of_one.num_features, of_one.eps, of_one.momentum, False, False)
        self.affine, self.track_running_stats = of_one.affine, of_one.track_running_stats
        self.weight, self.bias = of_one.weight, of_one.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            setattr(self, name, getattr(of_one, name))
        self._check_input_dim = of_one._check_input_dim  # type: ignore[method-assign]
        self.train(of_one.training)

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, num_features, *space] to the same shape; B may differ between processes."""
        self._check_input_dim(input)
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        ones, zeros = input.new_ones(self.num_features), input.new_zeros(self.num_features)
        weight, bias = (self.weight, self.bias) if self.affine else (ones, zeros)
        output, batch = batch_norm(input, weight, bias, self.eps, dist.group.WORLD)
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            if self.momentum is not None:
                self.num_batches_tracked.add_(1)
            momentum = _momentum(self)
            unbiased = batch.variance * (batch.num_values / (batch.num_values - 1))
            self.running_mean.lerp_(batch.mean.to(self.running_mean), momentum)
            self.running_var.lerp_(unbiased.to(self.running_var), momentum)
        return output


def pool_batch_norms(network: nn.Module) -> None:
    """Make torch's own batch norms in ``network`` pool the batches of all processes.

    In place; parameters and state-dict names are kept. Works on any device, unlike
    `torch.nn.SyncBatchNorm.convert_sync_batchnorm`, and with batches of different sizes.
    """
    for name, child in network.named_children():
        # Subclasses may preprocess their input, and are left unchanged.
        plain = type(child) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        if isinstance(child, _BatchNorm) and plain:
            setattr(network, name, _PooledBatchNorm(child))
        else:
            pool_batch_norms(child)
