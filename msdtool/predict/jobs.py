"""Which files a prediction reads and writes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from msdtool.atomic import destination, is_marked
from msdtool.data.containers.registry import FORMATS, stem_of, suffix_of
from msdtool.data.neighbours import warn_of_gaps
from msdtool.data.sinks import ALL_SUFFIXES, COMPRESSIONS, SUFFIXES, is_folder
from msdtool.data.specifiers import Location, Specifier, expand
from msdtool.errors import ConfigError, RunDirectoryError
from msdtool.file_errors import cannot_write, expand_home
from msdtool.predict.encoding import Encoding, Pixels
from msdtool.predict.names import common_name, name_of
from msdtool.predict.regions import Region

WRITTEN_AS = {
    suffix: format.name
    for format in FORMATS
    if format.name in SUFFIXES
    for suffix in format.suffixes
} | {".png": "png"}
"""The format of a result by its suffix; an input with any other suffix makes a TIFF."""
RESULTS_IN_PNG = (".png", ".jpg", ".jpeg", ".bmp")
"""Inputs whose results are PNGs if these can hold them."""
NEVER_WRITTEN = (".jpg", ".jpeg", ".jp2", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".npz", ".raw")
"""Suffixes of images that no folder of results is meant to have."""


@dataclass(frozen=True)
class Job:
    """One result, with others that belong to it, and the files that it is made of.

    Attributes:
        location: the file to predict.
        output: the result.
        probabilities: the probability of each label, or None.
        format: of the result, one of `msdtool.data.sinks.ALL_SUFFIXES`.
        encoding: how values become pixels.
        compression: one of `msdtool.data.sinks.COMPRESSIONS`, or None for that of the format.
        slices: all files, in order, of a result that is a stack; () for the usual one of one file.
        region: the part of each image that is wanted; None: all of it.
        splits: the files that are averaged with it.
        spread: the standard deviation of what is averaged, or None.
        interval: the bounds that the network learned, or None.
    """

    location: Location
    output: Path
    probabilities: Path | None
    format: str
    encoding: Encoding = field(default_factory=Encoding)
    compression: str | None = None
    slices: tuple[Location, ...] = ()
    region: Region | None = None
    splits: tuple[Location, ...] = ()
    spread: Path | None = None
    interval: Path | None = None

    @property
    def input(self) -> Path:
        """The file that is read, or the first of several."""
        return self.location.path

    @property
    def outputs(self) -> list[Path]:
        """All files that the job writes."""
        return [self.output, *self.extras.values()]

    @property
    def extras(self) -> dict[str, Path]:
        """What is written besides the result, by kind."""
        kinds = ("probabilities", "spread", "interval")
        found = {kind: getattr(self, kind) for kind in kinds}
        return {kind: path for kind, path in found.items() if path is not None}

    @property
    def formats(self) -> list[str]:
        """The format of each of these: extras are float32, which not every format holds."""
        return [self.format, *(extra_format(self.format) for _ in self.extras)]

    def is_done(self) -> bool:
        """Whether all results exist; an empty file is not one: results are written atomically."""
        return all(
            is_marked(file) if is_folder(format) else file.is_file() and file.stat().st_size > 0
            for file, format in zip(self.outputs, self.formats, strict=True)
        )


def extra_format(format: str) -> str:
    """The format of what belongs to a result."""
    return format if format in SUFFIXES else "tif"


def plan_jobs(
    inputs: Specifier,
    output: str | Path,
    *,
    other_splits: Sequence[Specifier] = (),
    stack: bool = False,
    probabilities: bool = False,
    spread: bool = False,
    interval: bool = False,
    format: str | None = None,
    pixels: Pixels | None = None,
    encoding: Encoding | None = None,
    compression: str | None = None,
    region: Region | None = None,
) -> list[Job]:
    """Decide which files to predict and what the results are called.

    A result has its input's name, and its format if that can be written; otherwise it is a TIFF.
    A PNG, JPEG or BMP makes a PNG if that can hold the result. Probabilities add "_probabilities"
    to the name, a spread "_spread", bounds "_interval". A file that is named twice is predicted
    once.

    Args:
        inputs: the files.
        output: the folder for the results, or the result itself if it has the suffix of one.
        other_splits: files that are averaged with the inputs; results are named by what the names
            of all splits have in common.
        stack: make one result of all files, named by the folder of the first.
        probabilities: also write the probability of each label.
        spread: also write the standard deviation of what is averaged.
        interval: also write the bounds that the network learned, all lower ones first.
        format: format of the results, one of `msdtool.data.sinks.ALL_SUFFIXES`; None decides by
            name.
        pixels: what results hold; None: that is not known, and no result is a PNG by itself.
        encoding: how values become pixels; None: float32 values, or label values.
        compression: one of `msdtool.data.sinks.COMPRESSIONS`; None: that of the format.
        region: the part of each image that is wanted; None: all of it.

    Raises:
        InputError: a specifier names no file.
        ConfigError: two results would have the same name, a result would replace an input, the
            format is unknown or cannot hold the results, or it has no such compression.
    """
    if format not in (None, *ALL_SUFFIXES):
        raise ConfigError(
            f"format: got {format!r}; allowed: {', '.join(ALL_SUFFIXES)}", hint_key="format"
        )
    if stack and region is not None and "Z" in region.ranges:
        raise ConfigError("stack: name the files of the slices instead of a range of slices")
    locations = _each_once(expand(inputs))
    if stack:
        warn_of_gaps(locations)
    groups = [tuple(locations)] if stack else [(location,) for location in locations]
    places = _places(expand_home(output, ConfigError), len(groups), format)
    others = [_each_once(expand(split)) for split in other_splits]
    names = _names(locations, others, stack)
    jobs = []
    for number, (group, name) in enumerate(zip(groups, names, strict=True)):
        kind = places.format or _kind(group[0], pixels, compression, stack=stack)
        if kind == "png" and pixels is not None:
            _check_png(pixels)
        _check_compression(kind, compression)
        main = places.file or places.folder / f"{name}{ALL_SUFFIXES[kind]}"
        suffix = suffix_of(main) if kind in SUFFIXES else SUFFIXES[extra_format(kind)]
        named = {
            extra: main.with_name(f"{stem_of(main)}_{extra}{suffix}")
            for extra, wanted in (
                ("probabilities", probabilities),
                ("spread", spread),
                ("interval", interval),
            )
            if wanted
        }
        jobs.append(
            Job(
                group[0],
                main,
                named.get("probabilities"),
                kind,
                encoding or Encoding(),
                compression,
                group if stack else (),
                region,
                tuple(split[number] for split in others if number < len(split)),
                named.get("spread"),
                named.get("interval"),
            )
        )
    _check_names(jobs, [*locations, *(one for split in others for one in split)])
    return jobs


@dataclass(frozen=True)
class _Places:
    """Where results go: a folder, or a single file, and the format if it is settled."""

    folder: Path
    file: Path | None
    format: str | None


def _places(output: Path, count: int, format: str | None) -> _Places:
    suffix = suffix_of(output)
    named = WRITTEN_AS.get(suffix)
    if output.is_dir() and named != "zarr":
        return _Places(output, None, format)
    if named is None:
        if suffix in NEVER_WRITTEN:
            raise ConfigError(
                f"{output}: results are not written as {suffix}; choose one of "
                f"{', '.join(filter(None, ALL_SUFFIXES.values()))}, or name a folder"
            )
        return _Places(output, None, format)
    if suffix.endswith(".gz"):
        raise ConfigError(f"{output}: results are written uncompressed; name it {output.stem}")
    if count > 1:
        raise ConfigError(
            f"{output}: is a single file, but there are {count} inputs; name a folder, or make one "
            "volume of them, slice by slice",
            hint_key="stack",
        )
    if format not in (None, named):
        raise ConfigError(
            f"{output}: has the suffix of the format {named}, and the format is to be {format}; "
            "leave one of them out",
            hint_key="format",
        )
    return _Places(output.parent, output, named)


def _names(locations: list[Location], splits: list[list[Location]], stack: bool) -> list[str]:
    """The name of each result, without a suffix."""
    if stack:
        return [locations[0].path.absolute().parent.name or "stack"]
    names = [name_of(location) for location in locations]
    if not splits:
        return names
    others = [[name_of(location) for location in split] for split in splits]
    if any(len(other) != len(names) for other in others):
        return names
    common = [common_name(each) for each in zip(names, *others, strict=True)]
    return common if len(set(common)) == len(common) else names


def _kind(
    location: Location, pixels: Pixels | None, compression: str | None, *, stack: bool
) -> str:
    """The format of a result for which none is chosen."""
    suffix = suffix_of(location.path)
    if suffix in RESULTS_IN_PNG and pixels is not None and not stack:
        fits = pixels.png_refusal() is None
        return "png" if fits and compression in (None, *COMPRESSIONS["png"]) else "tif"
    found = WRITTEN_AS.get(suffix, "tif")
    return found if found in SUFFIXES else "tif"


def _check_png(pixels: Pixels) -> None:
    reason = pixels.png_refusal()
    if reason is not None:
        raise ConfigError(f"format: png: {reason}", hint_key="format dtype")


def _check_compression(format: str, compression: str | None) -> None:
    allowed = COMPRESSIONS[format]
    if compression not in (None, *allowed):
        raise ConfigError(
            f"compress: {compression}: the compressions of {format} results are "
            f"{', '.join(allowed)}",
            hint_key="compress format",
        )


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


def _check_names(jobs: Sequence[Job], inputs: Sequence[Location]) -> None:
    sources: dict[Path, Location] = {}
    for job in jobs:
        for file in job.outputs:
            if file in sources:
                raise ConfigError(
                    f"{sources[file]} and {job.location} would both be written to {file}; "
                    "predict them into different folders"
                )
            sources[file] = job.location
    originals = {place.path.resolve() for place in inputs}
    folders = {folder for path in originals for folder in path.parents}
    for job in jobs:
        for file, format in zip(job.outputs, job.formats, strict=True):
            if file.resolve() in originals:
                raise ConfigError(f"{file}: is one of the inputs; choose another output folder")
            if is_folder(format) and file.resolve() in folders:
                raise ConfigError(f"{file}: holds inputs; choose another output folder")


def check_outputs(
    jobs: Sequence[Job],
    folder: str | Path,
    *,
    skip_existing: bool = False,
    overwrite: bool = False,
) -> None:
    """Refuse to replace existing results unless told to, and anything that is not a result.

    Raises:
        RunDirectoryError: a result exists, or the folder is a file.
        ConfigError: what must not be replaced has the name of a result.
    """
    if Path(folder).is_file() and Path(folder) not in [job.output for job in jobs]:
        raise RunDirectoryError(f"{folder}: is a file; choose a folder for the results")
    files = [
        (file, format)
        for job in jobs
        for file, format in zip(job.outputs, job.formats, strict=True)
    ]
    for file, format in files:
        with cannot_write(file):
            destination(file, is_folder=is_folder(format))
    existing = [file for file, _ in files if file.exists()]
    if existing and not (skip_existing or overwrite):
        raise RunDirectoryError(
            f"{existing[0]}: already exists ({len(existing)} of the results do); skip existing "
            "results, or overwrite them",
            hint_key="skip_existing overwrite",
        )
