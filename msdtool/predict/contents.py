"""What the results of a job hold, and say about themselves."""

import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from msdtool.data.metadata import Description, Provenance
from msdtool.data.readers import (
    arrangement,
    count_images,
    file_states,
    metadata,
    pixel_type,
)
from msdtool.data.sinks import Result, stored_type
from msdtool.data.sinks.png import refusal
from msdtool.errors import ConfigError
from msdtool.predict.jobs import Job
from msdtool.predict.predictor import Predictor
from msdtool.runs.versions import versions
from msdtool.specifier_grammar import INNER


def results_of(job: Job, predictor: Predictor) -> list[tuple[Path, Result]]:
    """Return where the results of a job are written and what they hold.

    Raises:
        ConfigError: the input's dtype cannot be that of a result, or the format cannot hold it.
        InputError: the input cannot be read.
    """
    location = job.location
    locations = job.slices or (location,)
    found, input_dtype = arrangement(location, predictor.ndim), pixel_type(location)
    origin = {
        "input": [str(place) for place in job.slices] or str(location),
        "axes": found.axes,
        "files": [file_states(place) for place in (*locations, *job.splits)],
        "model": predictor.digest,
    }
    if job.splits:
        origin["splits"] = [str(place) for place in job.splits]
    counts = tuple(found.shape[axis] for axis in found.counting)
    names = "".join(found.axes[axis] for axis in found.counting)
    if job.slices:
        counts, names = (sum(count_images(place, predictor.ndim) for place in locations),), "Z"
    elif job.region is not None and len(counts) == 1:
        counts = (len(job.region.images(found, str(location))),)
    size = found.image_shape[1:]
    says = metadata(location, predictor.ndim)
    if job.region is not None:
        origin["region"] = str(job.region)
        size = job.region.size(found.space, size, str(location))
        says = says.cut(job.region.starts)
    space = predictor.result_space(size)
    axes = names + "C" + found.space
    provenance = Provenance(
        f"msdtool {versions()['msdtool']}", predictor.digest, _command(job, predictor)
    )
    scale = predictor.model.architecture.scale

    def result(path: Path, channels: int, dtype: np.dtype[Any], *, are_labels: bool) -> Result:
        kept = says.of_result(axes, channels, scale=scale, are_values=is_regression)
        return Result(
            counts=counts,
            names=names,
            image=(channels, *space),
            dtype=dtype.name,
            origin=origin,
            inner=location.inner,
            name=path.name,
            compression=job.compression,
            are_labels=are_labels,
            description=Description(kept, provenance, packing if path == job.output else None),
        )

    is_regression = predictor.label_map is None
    dtype = stored_type(job.format, job.encoding.dtype_for(input_dtype, predictor.result_dtype))
    packing = job.encoding.packing(dtype)
    if job.format == "png":
        channels = predictor.model.channels if is_regression else 1
        reason = refusal((channels, *space), dtype, math.prod(counts))
        if reason is not None:
            raise ConfigError(f"format: png: {location}: {reason}", hint_key="format dtype")
    channels, values = predictor.model.channels, np.dtype(np.float32)
    main = result(job.output, channels if is_regression else 1, dtype, are_labels=not is_regression)
    return [
        (job.output, main),
        *(
            (path, result(path, channels * (1 + (kind == "interval")), values, are_labels=False))
            for kind, path in job.extras.items()
        ),
    ]


def within_window(job: Job, predictor: Predictor) -> tuple[slice, ...] | None:
    """The place of a job's region in the network's output for what is read; None: all of it."""
    if job.region is None:
        return None
    architecture, found = predictor.model.architecture, arrangement(job.location, predictor.ndim)
    space = found.image_shape[1:]
    within = job.region.cut(found.space, space, predictor.reach, str(job.location)).within
    return tuple(
        slice(architecture.scale * part.start, architecture.scale * part.stop) for part in within
    )


def _command(job: Job, predictor: Predictor) -> str:
    """The command that makes these results: the same for all ways to them, without any folder."""
    words = ["msdtool", "predict", "MODEL", job.location.path.name]
    if job.location.inner:
        words[-1] += f"{INNER}{job.location.inner}"
    if job.slices:
        words += ["...", "--stack"]
    if predictor.tta:
        words.append("--tta")
    words += ["--ensemble", "MODEL"] * len(predictor.others)
    if predictor.scale_input != 1:
        words += ["--scale-input", f"{predictor.scale_input:g}"]
    if job.region is not None:
        words += ["--region", str(job.region)]
    if job.encoding.dtype is not None:
        words += ["--dtype", job.encoding.dtype]
    if job.encoding.scale is not None:
        words += ["--scale", "{:g}:{:g}".format(*job.encoding.scale)]
    return shlex.join(words)
