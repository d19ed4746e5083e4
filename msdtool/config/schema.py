"""The sections `network`, `stream`, `training` and `run`: meaning, default and values of each key.

The table of all keys in the documentation is generated from these descriptions.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from msdtool.border import Padding
from msdtool.config import value_schemas
from msdtool.config.loss_names import LOSS_TERMS, LOSSES, Loss
from msdtool.config.section import Section
from msdtool.config.values import (
    parse_class_weights,
    parse_digest,
    parse_duration,
    parse_freeze,
    parse_layer,
    parse_layers,
    parse_path,
)

Layer = Annotated[
    str | dict[str, dict[str, Any]],
    BeforeValidator(parse_layer),
    WithJsonSchema(value_schemas.LAYER),
]
Layers = Annotated[list[Any], BeforeValidator(parse_layers), WithJsonSchema(value_schemas.LAYERS)]
ClassWeights = Annotated[
    str | list[float],
    BeforeValidator(parse_class_weights),
    WithJsonSchema(value_schemas.CLASS_WEIGHTS),
]
Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(value_schemas.DURATION)]
# Not pydantic's own string, which must be UTF-8.
PathName = Annotated[str, PlainValidator(parse_path), WithJsonSchema(value_schemas.TEXT)]
Digest = Annotated[str, BeforeValidator(parse_digest), WithJsonSchema(value_schemas.DIGEST)]
Freeze = Annotated[
    list[str | dict[str, int]], BeforeValidator(parse_freeze), WithJsonSchema(value_schemas.FREEZE)
]

Selection = Literal["loss", "psnr", "ssim", "accuracy", "mean_iou", "mean_dice", "frc", "edges"]

SEGMENTATION_RATE = 1.5e-2
"""The default learning rate of segmentation."""


class NetworkConfig(Section):
    """The Mixed-Scale Dense network."""

    depth: int = Field(100, ge=1, le=10_000, description="hidden layers")
    width: int = Field(1, ge=1, le=10_000, description="channels per hidden layer")
    dilations: list[Annotated[int, Field(ge=1)]] = Field(
        list(range(1, 11)),
        min_length=1,
        description="dilation of each layer; a list shorter than the depth is repeated",
    )
    ndim: Literal[2, 3] = Field(2, description="images or volumes")
    padding: Padding = Field(
        "symmetric", description="values beyond the border; symmetric repeats the edge pixel"
    )
    stem: Layers = Field(
        [],
        description="layers before the network, such as [{ConvLayer: {nf: 4}}]; numbers of "
        "channels follow from the preceding layer",
    )
    head: Layers = Field([], description="layers after the network; the last returns the output")
    features: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="channels that the network passes to `head`; null: the number of output "
        "channels",
    )
    operation: Layer = Field(
        "conv",
        description="what each hidden layer computes with its dilation: `conv`, a 3-wide "
        "convolution, or a `GenericConv` with kernel and semifield. Anything but `conv` and "
        "`ReLU` without `norm` is computed by plain PyTorch, which is slower",
    )
    activation: Layer = Field("ReLU", description="after each hidden layer")
    norm: Layer | None = Field(
        None,
        description="normalisation before each activation, such as `SyncBatchNorm`, which "
        "normalises over the batches of all GPUs",
    )


class StreamConfig(Section):
    """How the network works on image sequences: time series, or the slices of volumes."""

    axis: Literal[0, 1, 2] = Field(
        0, description="the axis of a volume that counts its frames: 0 is the slices"
    )
    frames_per_chunk: int = Field(
        16,
        ge=1,
        description="frames predicted together: affects memory use, not the result",
    )

    def frame_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """The size of a frame, of the size of a sequence."""
        return tuple(pixels for axis, pixels in enumerate(size) if axis != self.axis)


class TrainingConfig(Section):
    """How the network learns."""

    epochs: int = Field(100, ge=1, description="passes over the training set")
    batch_size: int = Field(
        1,
        ge=1,
        description="images per step over all processes: each takes its shard, so that an "
        "experiment is the same on any number of GPUs. The images of one process must have the "
        "same size",
    )
    accumulate: int = Field(
        1, ge=1, description="batches whose gradients are averaged for one update"
    )
    initial: PathName | None = Field(
        None,
        description="start from the weights of this trained network, a run directory or a "
        "checkpoint, instead of random ones; see [fine-tuning](training.md#fine-tuning)",
    )
    initial_sha256: Digest | None = Field(
        None,
        description="SHA-256 of the checkpoint that `initial` names: any other is refused. A run's "
        "own config.yaml states it",
    )
    initial_normalisation: Literal["measure", "keep"] = Field(
        "measure",
        description="mean and standard deviation by which images are scaled, if there is an "
        "`initial` network: those of the new training set, or those that the network has",
    )
    freeze: Freeze = Field(
        [],
        description="parts of the `initial` network that are not trained: `stem`, `head`, `block` "
        "(all hidden layers), `{block: 20}` (the first 20 of them). They work as in prediction",
    )
    optimizer: Literal["adam", "adamw"] = Field("adam", description="update rule")
    learning_rate: float = Field(
        1e-2,
        gt=0,
        le=1e6,
        description="learning rate after the warm-up, from which the schedule starts; default "
        f"{SEGMENTATION_RATE:g} for segmentation",
    )
    weight_decay: float = Field(
        0.0, ge=0, le=1e6, description="decoupled for adamw, L2 penalty for adam"
    )
    schedule: Literal["constant", "cosine", "plateau"] = Field(
        "cosine",
        description="learning rate over time: cosine falls to 0 at the last epoch, plateau halves "
        "it after `plateau_patience` validations without improvement (epochs, if there is no "
        "validation)",
    )
    warmup: int = Field(
        50,
        ge=0,
        description="updates over which the learning rate rises to its value; a tenth of all "
        "updates at most",
    )
    plateau_patience: int = Field(
        5,
        ge=1,
        description="validations without improvement before `schedule: plateau` halves the rate",
    )
    average: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="validate and save an exponential moving average of the weights, this being "
        "its decay: 0.99 averages over about 100 updates. For a constant rate; cosine needs none",
    )
    gradient_clip: float | None = Field(
        1.0, gt=0, description="maximum gradient norm; null does not limit it"
    )
    cuda_graphs: bool | None = Field(
        None,
        description="launch each step as a CUDA graph, since small images are computed faster than "
        "their kernels are launched one by one. null: if all images, or crops, have one size and "
        "graphs can be used: a single process on a GPU, float32 or tf32, no accumulation, stem or "
        "head. true: also for images of a few sizes, each of which takes memory",
    )
    loss: Loss = Field(
        "L2",
        description=f"what is minimised: for segmentation {', '.join(LOSSES['segmentation'])} "
        f"(default cross_entropy); for regression {', '.join(LOSSES['regression'])} (default L2), "
        "in units of the targets' standard deviation. Or a list with weights, such as [{L2: 1}, "
        f"{{Gram: 0.1}}], of {', '.join(LOSS_TERMS['regression'])}, or of "
        f"{', '.join(LOSS_TERMS['segmentation'])}. What each is for: [losses](training.md#losses)",
    )
    interval: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="regression: also learn an interval that holds this fraction of the target "
        "values, such as 0.9, by two more outputs per channel; see "
        "[uncertainty](training.md#how-sure-a-network-is)",
    )
    huber_delta: float = Field(
        1.0, gt=0, description="where Huber becomes linear, in target standard deviations"
    )
    ssim_weight: float = Field(0.84, gt=0, lt=1, description="weight of 1 - SSIM in the SSIM mixes")
    ms_ssim_scales: int = Field(
        5,
        ge=1,
        le=5,
        description="scales of MS-SSIM, each half as fine as the one before; n scales need images, "
        "or crops, of 11 x 2^(n - 1) pixels, 5 of them 176",
    )
    top_k_fraction: float = Field(
        0.1,
        gt=0,
        le=1,
        description="fraction of each image's pixels that top_k looks at: those with the largest "
        "L2 or cross_entropy",
    )
    focal_gamma: float = Field(
        2.0,
        ge=0,
        le=100,
        description="of focal: the larger, the less pixels count that are nearly right; 0 is "
        "cross_entropy",
    )
    tversky_alpha: float = Field(
        0.3, gt=0, le=100, description="of tversky: weight of false positives"
    )
    tversky_beta: float = Field(
        0.7, gt=0, le=100, description="of tversky: weight of false negatives; 0.5 for both is dice"
    )
    class_weights: ClassWeights | None = Field(
        None,
        description="segmentation: `balanced` (inverse frequency in the training targets) or one "
        "number per label, for cross_entropy and focal",
    )
    validate_every: int = Field(1, ge=1, description="epochs between validations")
    select: Selection = Field(
        "loss",
        description="the value of validation that decides which epoch's network is the best one, "
        "and that `patience` and `schedule: plateau` watch: the loss (that of training, if there "
        "is no validation), a metric, or a score that needs no clean images; see "
        "[selection](training.md#which-epoch-is-the-best)",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="stop after this many validations without improvement of what `select` names; "
        "null: never",
    )
    max_time: Duration | None = Field(
        None,
        description="stop after this much training time, mid-epoch if necessary, such as 90m, "
        "11.5h or 11:30:00",
    )
    checkpoint_every: Duration = Field(
        600.0, description="maximum time between two checkpoints, such as 10m"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="seed of everything random")
    precision: Literal["float32", "tf32", "bf16", "fp16"] = Field(
        "float32",
        description="on a GPU, what training computes the network with: tf32 rounds the factors of "
        "matrix products, bf16 and fp16 also halve the memory. Weights, losses and validation are "
        "float32; see [precision](training.md#precision)",
    )
    deterministic: bool = Field(False, description="use deterministic GPU algorithms only")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto uses the GPU if there is one"
    )

    def frozen_layers(self, depth: int) -> int:
        """How many hidden layers, of ``depth``, are not trained: the first ones."""
        if "block" in self.freeze:
            return depth
        return next((part["block"] for part in self.freeze if isinstance(part, dict)), 0)

    @property
    def loss_terms(self) -> dict[str, float]:
        """The weight of each term of the loss."""
        if not isinstance(self.loss, str):
            return {name: weight for term in self.loss for name, weight in term.items()}
        first, _, second = self.loss.partition("+")
        if second == "SSIM":
            return {first: 1 - self.ssim_weight, second: self.ssim_weight}
        return {first: 1.0, second: 1.0} if second else {first: 1.0}


class RunConfig(Section):
    """Where results go."""

    directory: PathName = Field("runs/experiment", description="the run directory")
    previews: bool = Field(
        True, description="figures of the best, typical and worst validation image"
    )
    tensorboard: bool = Field(False, description="also write TensorBoard logs (an extra)")
