"""Which files a prediction reads and writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msdtool.data.readers import arrangement
from msdtool.data.sinks import SUFFIXES, Result
from msdtool.data.specifiers import Location, Specifier, expand
from msdtool.errors import ConfigError, RunDirectoryError
from msdtool.predict.predictor import Predictor

FORMATS = {
    ".tif": "tif",
    ".tiff": "tif",
    ".btf": "tif",
    ".npy": "npy",
    ".zarr": "zarr",
} | dict.fromkeys((".h5", ".hdf5", ".hdf", ".he5", ".nxs"), "h5")
"""The format that an ending stands for; results of all others are TIFFs."""


@dataclass(frozen=True)
class Job:
    """One file to predict and where its results go.

    Attributes:
        location: the file.
        output: the result.
        probabilities: of each label, or None.
        format: of both, one of `msdtool.data.sinks.SUFFIXES`.
    """

    location: Location
    output: Path
    probabilities: Path | None
    format: str

    @property
    def input(self) -> Path:
        """The file that is read."""
        return self.location.path

    @property
    def outputs(self) -> list[Path]:
        """All files that the job writes."""
        return [self.output] if self.probabilities is None else [self.output, self.probabilities]

    def is_done(self) -> bool:
        """Whether all results are there; they are written whole, so an empty file is none."""
        return all(
            any(file.iterdir()) if file.is_dir() else file.is_file() and file.stat().st_size > 0
            for file in self.outputs
        )


def plan_jobs(
    inputs: Specifier,
    output: str | Path,
    *,
    probabilities: bool = False,
    format: str | None = None,
) -> list[Job]:
    """Decide which files to predict and how the results are named.

    A result keeps its input's name, and its kind of file where that can be written, else it is a
    TIFF; probabilities add "_probabilities".

    Args:
        inputs: the files.
        output: the folder for the results; if it ends as a file of results does, the result.
        probabilities: also write each label's.
        format: kind of the results, one of `msdtool.data.sinks.SUFFIXES`; None decides by name.

    Raises:
        InputError: a specifier names no file.
        ConfigError: two results would have one name, a result would replace an input, or there is
            no such format.
    """
    if format not in (None, *SUFFIXES):
        raise ConfigError(f"--format {format}: allowed: {', '.join(SUFFIXES)}")
    output = Path(output).expanduser()
    locations = expand(inputs)
    is_file = output.suffix.lower() in FORMATS and not output.is_dir()
    if is_file and len(locations) > 1:
        raise ConfigError(f"{output}: is one file, for {len(locations)} inputs; name a folder")
    jobs = []
    for location in locations:
        kind = format or FORMATS.get((output if is_file else location.path).suffix.lower(), "tif")
        folder, stem = (output.parent, output.stem) if is_file else (output, location.path.stem)
        suffix = output.suffix if is_file and not format else SUFFIXES[kind]
        extra = folder / f"{stem}_probabilities{suffix}" if probabilities else None
        jobs.append(Job(location, folder / f"{stem}{suffix}", extra, kind))
    _check_names(jobs)
    return jobs


def unfinished(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs of which a result is missing."""
    return [job for job in jobs if not job.is_done()]


def _check_names(jobs: Sequence[Job]) -> None:
    sources: dict[Path, Location] = {}
    for job in jobs:
        for file in job.outputs:
            if file in sources:
                raise ConfigError(
                    f"{sources[file]} and {job.location} would both be written to {file}; "
                    "predict them into different folders"
                )
            sources[file] = job.location
    originals = {job.input.resolve() for job in jobs}
    for file in sources:
        if file.resolve() in originals:
            raise ConfigError(f"{file}: is one of the inputs; choose another output folder")


def check_outputs(jobs: Sequence[Job], folder: str | Path) -> None:
    """Refuse to replace results that are there.

    Raises:
        RunDirectoryError: there are some, or the folder is a file.
    """
    if Path(folder).is_file() and Path(folder) not in [job.output for job in jobs]:
        raise RunDirectoryError(f"{folder}: is a file; choose a folder for the results")
    existing = [file for job in jobs for file in job.outputs if file.exists()]
    if existing:
        raise RunDirectoryError(
            f"{existing[0]}: exists already ({len(existing)} of the results do); "
            "use --skip-existing to go on, or --overwrite to replace them"
        )


def results_of(job: Job, predictor: Predictor) -> list[tuple[Path, Result]]:
    """Where the results of a job go and what they hold."""
    location = job.location
    found = arrangement(location, predictor.ndim)
    state = location.path.stat()
    origin = {
        "input": str(location),
        "axes": found.axes,
        "changed": state.st_mtime_ns,
        "model": predictor.digest,
    }
    counts = tuple(found.shape[axis] for axis in found.counting)
    names = "".join(found.axes[axis] for axis in found.counting)
    space = predictor.result_space(found.image_shape[1:])

    def result(channels: int, dtype: str) -> Result:
        return Result(counts, names, (channels, *space), dtype, origin, location.inner)

    is_labels = predictor.label_map is not None
    main = result(1 if is_labels else predictor.c_out, str(predictor.result_dtype))
    results = [(job.output, main)]
    if job.probabilities is not None:
        results.append((job.probabilities, result(predictor.c_out, "float32")))
    return results
