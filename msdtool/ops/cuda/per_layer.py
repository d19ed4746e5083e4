"""The MSD block on a GPU, one kernel per layer and operation (kernels/convolution.cu).

No products: slow, and what `msdtool.ops.cuda.product` is checked against and builds on. It runs
where `msdtool.ops.cuda.launcher` can launch kernels: on a GPU with CuPy.

Terms: planes [C, plane] of a `Layout` are the channels of all images in storage type, grads
[C, plane] the gradient with respect to them in the type used for computing; ``m`` counts the
channels that precede a block of layers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from msdtool.ops.cuda import convolution
from msdtool.ops.cuda.convolution import MAX_PIXELS, Geometry, compute_dtype
from msdtool.ops.cuda.layout import Layout
from msdtool.ops.engine import BlockShape, Engine, Gradients, Parameters

# A strip's taps, written by a product and read back by a kernel, should stay in the second-level
# cache (40 MB on an A100, 50 MB on an H100).
STRIP_BYTES = 24 * 2**20


class PerLayerEngine(Engine):
    """Computes a batch with one kernel per layer and operation."""

    pixels_at_once = 2**21

    def __init__(self, shape: BlockShape, like: Tensor, *, halo: int = 0) -> None:
        super().__init__(shape, like)
        self.layout = Layout(shape, halo)
        self.element_size = like.element_size()
        self.max_slices = MAX_PIXELS // self.layout.slice_size

    @property
    def slice_bytes(self) -> int:
        return self.shape.num_channels * self.layout.slice_size * self.element_size

    @property
    def workspace_bytes(self) -> int:
        return 0

    def new_planes(self, like: Tensor) -> Tensor:
        return self.layout.new_planes(like)

    def images(self, planes: Tensor) -> Tensor:
        return self.layout.images(planes)

    def geometry(self, layer: int) -> Geometry:
        """How the convolution of a layer moves over its input."""
        return Geometry(self.shape.padding, 1, self.shape.dilations[layer])

    def forward(self, planes: Tensor, parameters: Parameters) -> None:
        for layer in range(self.shape.depth):
            alone = range(layer, layer + 1)
            channels = self.shape.channels(alone)
            convolution.forward(
                self.images(planes[: channels.start]),
                parameters.weights[layer],
                parameters.bias[self.shape.outputs(alone)],
                self.images(planes[channels]),
                self.geometry(layer),
                relu=True,
            )

    def forward_final(self, planes: Tensor, parameters: Parameters, output: Tensor) -> None:
        _, _, weight, bias = parameters
        assert weight is not None and bias is not None
        if (
            self.shape.batch == 1 and self.layout.halo == 0
        ):  # in place: the output may be as large as the image
            torch.addmm(bias[:, None], weight.squeeze(2), planes, out=output[0].flatten(1))
        else:
            output.copy_(self.images(torch.addmm(bias[:, None], weight.squeeze(2), planes)))

    def backward(
        self, planes: Tensor, parameters: Parameters, grad_output: Tensor, gradients: Gradients
    ) -> None:
        upstream = self.layout.gradients_of(grad_output.to(compute_dtype(planes.dtype)))
        if parameters.final_weight is None:
            grads = upstream.clone()
        else:
            grads = parameters.final_weight.squeeze(2).t().to(upstream.dtype) @ upstream
            _final_gradients(planes, upstream, gradients)
        self.backward_layers(planes, grads, parameters.weights, gradients)
        if gradients.input is not None:
            gradients.input.copy_(self.images(grads[: self.shape.c_in]))

    def backward_layers(
        self, planes: Tensor, grads: Tensor, weights: Sequence[Tensor], gradients: Gradients
    ) -> None:
        """Add to the gradients with respect to the parameters of the block.

        grads ends as the gradient with respect to the input channels, if that is needed.
        """
        lowest = 0 if gradients.input is not None else self.shape.c_in
        for layer in reversed(range(self.shape.depth)):
            alone = range(layer, layer + 1)
            channels, geometry = self.shape.channels(alone), self.geometry(layer)
            output, grad_output = self.images(planes[channels]), self.images(grads[channels])
            if gradients.wants(alone):
                by_weight, by_bias = convolution.backward_weight(
                    self.images(planes[: channels.start]),
                    weights[layer].shape,
                    output,
                    grad_output,
                    geometry,
                )
                gradients.add(layer, self.shape.outputs(alone), by_weight, by_bias)
            self.add_to_sources(planes, grads, weights, layer, lowest)

    def add_to_sources(
        self, planes: Tensor, grads: Tensor, weights: Sequence[Tensor], layer: int, lowest: int
    ) -> None:
        """Add a layer's gradient to those of the channels from ``lowest`` that it reads."""
        channels = self.shape.channels(range(layer, layer + 1))
        if lowest == channels.start:
            return
        convolution.backward_input(
            weights[layer][:, lowest:],
            self.images(planes[channels]),
            self.images(grads[channels]),
            self.images(grads[lowest : channels.start]),
            self.geometry(layer),
        )


def _final_gradients(planes: Tensor, upstream: Tensor, gradients: Gradients) -> None:
    """Add the gradients of the final layer from that of its output, [c_out, plane]."""
    if gradients.final_weight is not None:
        by_weight = gradients.final_weight.squeeze(2)
        step = max(1, STRIP_BYTES // (len(planes) * upstream.element_size()))
        step = planes.shape[1] if planes.dtype == upstream.dtype else step
        for sources, grads in zip(planes.split(step, 1), upstream.split(step, 1), strict=True):
            by_weight.addmm_(grads, sources.to(grads.dtype).t())
    if gradients.final_bias is not None:
        gradients.final_bias.copy_(upstream.sum(1))
