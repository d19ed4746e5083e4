"""Which files a prediction reads and writes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from msdtool.atomic import destination, is_marked
from msdtool.data.containers.registry import FORMATS
from msdtool.data.readers import arrangement
from msdtool.data.sinks import SUFFIXES, Result, is_folder
from msdtool.data.specifiers import Location, Specifier, expand
from msdtool.errors import ConfigError, RunDirectoryError
from msdtool.file_errors import cannot_write
from msdtool.predict.predictor import Predictor

WRITTEN_AS = {
    suffix: format.name
    for format in FORMATS
    if format.name in SUFFIXES
    for suffix in format.suffixes
}
"""The format of a result by its suffix; an input with any other suffix makes a TIFF."""


@dataclass(frozen=True)
class Job:
    """One file to predict and where its results go.

    Attributes:
        location: the file.
        output: the result.
        probabilities: the probability of each label, or None.
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
        """Whether all results exist; an empty file is not one: results are written atomically."""
        return all(
            is_marked(file)
            if is_folder(self.format)
            else file.is_file() and file.stat().st_size > 0
            for file in self.outputs
        )


def plan_jobs(
    inputs: Specifier,
    output: str | Path,
    *,
    probabilities: bool = False,
    format: str | None = None,
) -> list[Job]:
    """Decide which files to predict and what the results are called.

    A result has its input's name, and its format if that can be written; otherwise it is a TIFF.
    Probabilities add "_probabilities" to the name. A file that is named twice is predicted once.

    Args:
        inputs: the files.
        output: the folder for the results, or the result itself if it has the suffix of one.
        probabilities: also write the probability of each label.
        format: format of the results, one of `msdtool.data.sinks.SUFFIXES`; None decides by name.

    Raises:
        InputError: a specifier names no file.
        ConfigError: two results would have the same name, a result would replace an input, or the
            format is unknown.
    """
    if format not in (None, *SUFFIXES):
        raise ConfigError(
            f"format: got {format!r}; allowed: {', '.join(SUFFIXES)}", hint_key="format"
        )
    output = Path(output).expanduser()
    locations = _each_once(expand(inputs))
    named_format = WRITTEN_AS.get(output.suffix.lower())
    is_file = named_format == "zarr" or (named_format is not None and not output.is_dir())
    if is_file and len(locations) > 1:
        raise ConfigError(
            f"{output}: is a single file, but there are {len(locations)} inputs; name a folder"
        )
    jobs = []
    for location in locations:
        named = output if is_file else location.path
        kind = format or WRITTEN_AS.get(named.suffix.lower(), "tif")
        folder, stem = (output.parent, output.stem) if is_file else (output, location.path.stem)
        suffix = output.suffix if is_file and not format else SUFFIXES[kind]
        extra = folder / f"{stem}_probabilities{suffix}" if probabilities else None
        jobs.append(Job(location, folder / f"{stem}{suffix}", extra, kind))
    _check_names(jobs)
    return jobs


def _each_once(locations: Sequence[Location]) -> list[Location]:
    """Leave out files that were named before, as by image.tif and *.tif, or by another path."""
    by_identity: dict[tuple[str, Location], Location] = {}
    for location in locations:
        identity = location.path.stem, replace(location, path=location.path.resolve())
        by_identity.setdefault(identity, location)
    return list(by_identity.values())


def unfinished(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs that lack a result."""
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


def check_outputs(
    jobs: Sequence[Job],
    folder: str | Path,
    *,
    skip_existing: bool = False,
    overwrite: bool = False,
) -> None:
    """Refuse to replace existing results unless told to, and ever what is no result.

    Raises:
        RunDirectoryError: a result exists, or the folder is a file.
        ConfigError: what must not be replaced has the name of a result.
    """
    if Path(folder).is_file() and Path(folder) not in [job.output for job in jobs]:
        raise RunDirectoryError(f"{folder}: is a file; choose a folder for the results")
    files = [(file, is_folder(job.format)) for job in jobs for file in job.outputs]
    for file, as_folder in files:
        with cannot_write(file):
            destination(file, is_folder=as_folder)
    existing = [file for file, _ in files if file.exists()]
    if existing and not (skip_existing or overwrite):
        raise RunDirectoryError(
            f"{existing[0]}: already exists ({len(existing)} of the results do); skip existing "
            "results, or overwrite them",
            hint_key="skip_existing overwrite",
        )


def results_of(job: Job, predictor: Predictor) -> list[tuple[Path, Result]]:
    """Return where the results of a job are written and what they hold."""
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
