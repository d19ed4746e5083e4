"""What the CPU engines share: a batch is computed image by image, in one buffer of gradients."""

from abc import abstractmethod

from torch import Tensor

from msdtool.ops.engine import Engine, Gradients, Parameters


class ImageEngine(Engine):
    """An engine that computes one image at a time.

    The planes of a batch are [B, ...], those of each image one after another. ``grads`` is the
    gradient with respect to all channels of one image, in a buffer like that of its planes.
    """

    pixels_at_once = 1

    @abstractmethod
    def new_buffer(self, *leading: int, like: Tensor) -> Tensor:
        """Uninitialised planes of one image or, with ``leading`` axes before theirs, of more."""

    @abstractmethod
    def load(self, grads: Tensor, images: Tensor) -> None:
        """Copy the gradient with respect to all channels, [C, *space], to grads."""

    @abstractmethod
    def forward_image(self, planes: Tensor, parameters: Parameters) -> None:
        """Compute all channels after the first c_in, which hold the input."""

    @abstractmethod
    def backward_image(
        self, planes: Tensor, grads: Tensor, parameters: Parameters, gradients: Gradients
    ) -> None:
        """Add to the gradients with respect to the parameters of the block.

        grads ends as the gradient with respect to the input channels, if that is needed.
        """

    @abstractmethod
    def forward_final_image(
        self, planes: Tensor, weight: Tensor, bias: Tensor, output: Tensor
    ) -> None:
        """Write weight [c_out, C, 1] times planes plus bias [c_out] to output [c_out, *space]."""

    @abstractmethod
    def backward_final_image(
        self,
        planes: Tensor,
        weight: Tensor,
        grad_output: Tensor,
        grads: Tensor,
        grad_weight: Tensor | None,
    ) -> None:
        """Write the gradient with respect to every channel to grads; add to grad_weight."""

    def new_planes(self, like: Tensor) -> Tensor:
        return self.new_buffer(self.shape.batch, like=like)

    def forward(self, planes: Tensor, parameters: Parameters) -> None:
        for image in planes:
            self.forward_image(image, parameters)

    def forward_final(self, planes: Tensor, parameters: Parameters, output: Tensor) -> None:
        _, _, weight, bias = parameters
        assert weight is not None and bias is not None
        for image, result in zip(planes, output, strict=True):
            self.forward_final_image(image, weight, bias, result)

    def backward(
        self, planes: Tensor, parameters: Parameters, grad_output: Tensor, gradients: Gradients
    ) -> None:
        grads = self.new_buffer(like=planes)
        for index, image in enumerate(planes):
            upstream = grad_output[index]
            if parameters.final_weight is None:
                self.load(grads, upstream)
            else:
                self.backward_final_image(
                    image, parameters.final_weight, upstream, grads, gradients.final_weight
                )
            self.backward_image(image, grads, parameters, gradients)
            if gradients.input is not None:
                gradients.input[index] = self.images(grads)[: self.shape.c_in]
        if gradients.final_bias is not None:
            gradients.final_bias.copy_(grad_output.flatten(2).sum((0, 2)))
