"""Applying a trained network to images on disk."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from msdtool.data import LabelMap
from msdtool.data.inputs import open_inputs
from msdtool.data.interfaces import Stack
from msdtool.data.readers import Array, arrangement, read_image
from msdtool.data.specifiers import Specifier, expand
from msdtool.data.stacks import ImageStack, to_float
from msdtool.data.writers import label_dtype, tiff_in_pieces, write_tiff
from msdtool.errors import ConfigError, Error, InputError, ModelFileError, RunDirectoryError
from msdtool.nn.build import build_network, has_all_layers
from msdtool.nn.device import choose_device
from msdtool.nn.memory import out_of_memory, prediction_bytes
from msdtool.nn.series import SeriesNetwork
from msdtool.runs.checkpoint import Model, find_model, load_checkpoint


class Predictor:
    """A trained network and what it needs to read and write images.

    Args:
        model: the network, as a checkpoint holds it.
        device: "auto", "cpu" or "cuda".
        name: what error messages call the model.

    Raises:
        ModelFileError: the weights do not fit the architecture.
    """

    def __init__(self, model: Model, device: str = "auto", name: str = "model") -> None:
        self.model = model
        self.device = choose_device(device)
        try:
            labels, depth = model["labels"], model["architecture"]["depth"]
            self.label_map = LabelMap(labels, model["ignore"]) if labels else None
            if not has_all_layers(model["architecture"], model["state"]):
                raise ValueError(f"it has no weights of layer {depth}")  # before they are made
            self.ndim: int = model["architecture"]["ndim"]
            self.network = build_network(model["architecture"])
            self.network.load_state_dict(model["state"])
            if not all(tensor.isfinite().all() for tensor in model["state"].values()):
                raise ValueError("NaN or infinite values")
        except Exception as error:
            # torch says what is wrong below a heading; a missing key has no more than its name.
            reason = str(error).split("\n")[:2][-1].strip()
            raise ModelFileError(
                f"{name}: is damaged, its weights do not fit its network: {reason}"
            ) from None
        self.network.to(self.device).eval().requires_grad_(False)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> "Predictor":
        """Load a run directory's best checkpoint, or a checkpoint file.

        Raises:
            ModelFileError: there is none, or it cannot be used.
        """
        file = find_model(path)
        return cls(load_checkpoint(file)["model"], device, str(file))

    def open_inputs(self, specifiers: Sequence[Specifier]) -> tuple[Stack, list[ImageStack]]:
        """Open inputs the way the training inputs were made; see `msdtool.data.inputs`.

        Raises:
            InputError: there are no files, or another number of splits.
        """
        return open_inputs(
            specifiers,
            splits=self.model["splits"],
            strategy=self.model["strategy"],
            slab=self.model["slab"],
            collapse_channels=self.model["collapse_channels"],
            ndim=self.ndim,
        )

    def read(self, path: Path) -> Tensor:
        """Read an image the way the training images were read, [C, *space] float32.

        Raises:
            InputError: the file is not an image that the network can work on.
        """
        collapse = self.model["collapse_channels"]
        image = to_float(read_image(path, self.ndim, drop_alpha=collapse), collapse)
        self.check(image, str(path))
        return image

    def check(self, image: Tensor, name: str) -> None:
        """Raise InputError if the network cannot work on an image."""
        thickness = 2 * self.model["slab"] + 1
        found, expected = image.shape[0], self.model["architecture"]["c_in"]
        if found not in (expected, expected * (self.model["splits"] or 1)):
            raise InputError(
                f"{name}: the image has {found // thickness} channels, the model was trained on "
                f"images with {expected // thickness}"
            )
        bad = int(image.numel() - image.isfinite().sum())
        if bad:
            raise InputError(
                f"{name}: {bad} of {image.numel()} values are NaN or infinite; replace them"
            )

    def read_pieces(self, path: Path) -> Iterator[Tensor]:
        """Read a series as `read` does, a few frames at a time.

        Raises:
            InputError: the file is not a series that the network can work on.
        """
        series, collapse = self.series, self.model["collapse_channels"]
        region = [slice(None)] * self.ndim
        for start in range(0, self.num_frames(path), series.dt):
            region[series.axis] = slice(start, start + series.dt)
            image = read_image(path, self.ndim, region=tuple(region), drop_alpha=collapse)
            piece = to_float(image, collapse)
            self.check(piece, str(path))
            yield piece

    def num_frames(self, path: Path) -> int:
        """How many frames a series has, from its file's header.

        Raises:
            InputError: the file cannot be read.
        """
        return arrangement(path, self.ndim).image_shape[1 + self.series.axis]

    @property
    def series(self) -> SeriesNetwork:
        """The network, if it works on series."""
        assert isinstance(self.network, SeriesNetwork)
        return self.network

    def __call__(self, image: Tensor, name: str = "image") -> Tensor:
        """Map an image [c_in, *space] to the network's output [c_out, *space], on the CPU.

        Of several inputs [n * c_in, *space], as splits make them, it is the mean of the outputs.

        Raises:
            InputError: the image is too small for the network's dilations.
        """
        inputs = image.unflatten(0, (-1, self.model["architecture"]["c_in"]))
        outputs = [self._apply(self.network, one, name) for one in inputs]
        return torch.stack(outputs).mean(0) if len(outputs) > 1 else outputs[0]

    def advance(self, piece: Tensor, name: str = "image") -> Tensor:
        """Go on with a series by a piece [c_in, *space]; see `SeriesNetwork.advance`.

        Raises:
            InputError: the frames are too small for the network's dilations.
        """
        return self._apply(self.series.advance, piece, name)

    def _apply(self, network: Callable[[Tensor], Tensor], image: Tensor, name: str) -> Tensor:
        try:
            with torch.no_grad():
                return network(image.unsqueeze(0).to(self.device))[0].cpu()
        except ValueError as error:
            raise InputError(f"{name}: {error}") from None
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            needed = prediction_bytes(self.model["architecture"], image.shape[1:])
            raise Error(
                f"{name}: an image of shape {tuple(image.shape)} does not fit in memory, it needs "
                f"about {needed / 2**20:,.0f} MiB; cut it, or use a machine with more"
            ) from None

    def to_image(self, output: Tensor) -> Array:
        """Turn the network's output into what is written: float32, or label values."""
        if self.label_map is None:
            return output.numpy()
        values = self.label_map.to_values(output.argmax(0, keepdim=True).numpy())
        return values.astype(label_dtype(self.label_map.values))


@dataclass(frozen=True)
class Job:
    """One image to predict and where its results go."""

    input: Path
    output: Path
    probabilities: Path | None

    @property
    def outputs(self) -> list[Path]:
        """All files that the job writes."""
        return [self.output] if self.probabilities is None else [self.output, self.probabilities]


@dataclass(frozen=True)
class Prediction:
    """A job that is done."""

    job: Job
    skipped: bool
    seconds: float


def _is_done(file: Path) -> bool:
    """Whether a result is there; results are written whole, so an empty file is none."""
    return file.is_file() and file.stat().st_size > 0


def plan_jobs(
    inputs: Specifier,
    folder: str | Path,
    *,
    probabilities: bool = False,
) -> list[Job]:
    """Decide which images to predict and how the results are named.

    A result keeps its input's name, with the ending .tif; probabilities add "_probabilities".

    Raises:
        InputError: a specifier names no file.
        ConfigError: two results would have one name, or a result would replace an input.
    """
    folder = Path(folder).expanduser()
    jobs = []
    sources: dict[Path, Path] = {}
    paths = expand(inputs)
    for path in (location.path for location in paths):
        output = folder / f"{path.stem}.tif"
        extra = folder / f"{path.stem}_probabilities.tif" if probabilities else None
        job = Job(path, output, extra)
        for file in job.outputs:
            if file in sources:
                raise ConfigError(
                    f"{sources[file]} and {path} would both be written to {file}; "
                    "predict them into different folders"
                )
            sources[file] = path
        jobs.append(job)
    originals = {location.path.resolve() for location in paths}
    for file in sources:
        if file.resolve() in originals:
            raise ConfigError(f"{file}: is one of the inputs; choose another output folder")
    return jobs


def unfinished(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs of which a result is missing."""
    return [job for job in jobs if not all(_is_done(file) for file in job.outputs)]


def check_outputs(jobs: Sequence[Job], folder: str | Path) -> None:
    """Refuse to replace results that are there.

    Raises:
        RunDirectoryError: there are some, or the folder is a file.
    """
    if Path(folder).is_file():
        raise RunDirectoryError(f"{folder}: is a file; choose a folder for the results")
    existing = [file for job in jobs for file in job.outputs if file.exists()]
    if existing:
        raise RunDirectoryError(
            f"{existing[0]}: exists already ({len(existing)} of the results do); "
            "use --skip-existing to go on, or --overwrite to replace them"
        )


def predict(
    predictor: Predictor, jobs: Sequence[Job], *, skip_existing: bool = False
) -> Iterator[Prediction]:
    """Do the jobs one after the other; each result is written whole or not at all.

    Raises:
        InputError: an image cannot be used; the results of those before it stay.
        Error: a result cannot be written.
    """
    for job in jobs:
        start = time.perf_counter()
        skipped = skip_existing and all(_is_done(file) for file in job.outputs)
        if not skipped:
            is_series = isinstance(predictor.network, SeriesNetwork)
            (_predict_series if is_series else _predict_whole)(predictor, job)
        yield Prediction(job, skipped, time.perf_counter() - start)


def _predict_whole(predictor: Predictor, job: Job) -> None:
    output = predictor(predictor.read(job.input), str(job.input))
    for path, image in _results(predictor, job, output):
        write_tiff(path, image)


def _predict_series(predictor: Predictor, job: Job) -> None:
    """Read, predict and write a few frames at a time; the network remembers what it needs."""
    network, num_frames = predictor.series, predictor.num_frames(job.input)
    axis = 1 + network.axis
    writers: list[Callable[[Array, int], None]] = []
    network.clear_state()
    with ExitStack() as files:
        start = 0
        for piece in predictor.read_pieces(job.input):
            results = _results(predictor, job, predictor.advance(piece, str(job.input)))
            for path, image in () if writers else results:
                shape = [*image.shape[:axis], num_frames, *image.shape[axis + 1 :]]
                file = tiff_in_pieces(path, shape, image.dtype, axis)
                writers.append(files.enter_context(file))
            for write, (_, image) in zip(writers, results, strict=True):
                write(image, start)
            start += piece.shape[axis]
    network.clear_state()


def _results(predictor: Predictor, job: Job, output: Tensor) -> list[tuple[Path, Array]]:
    """What a job writes, by file."""
    results = [(job.output, predictor.to_image(output))]
    if job.probabilities is not None:
        results.insert(0, (job.probabilities, output.softmax(0).numpy()))
    return results
