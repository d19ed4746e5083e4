"""What the results of a job hold, and say about themselves."""

from pathlib import Path
from typing import Any

import numpy as np

import msdtool
from msdtool.data.metadata import Description, Provenance
from msdtool.data.readers import arrangement, metadata, pixel_type
from msdtool.data.sinks import Result
from msdtool.predict.jobs import Job
from msdtool.predict.predictor import Predictor


def results_of(job: Job, predictor: Predictor, command: str = "") -> list[tuple[Path, Result]]:
    """Return where the results of a job are written and what they hold.

    Args:
        job: names the files.
        predictor: makes the results.
        command: the command line, see `msdtool.data.metadata.Provenance`.

    Raises:
        ConfigError: the input's dtype cannot be that of a result.
        InputError: the input cannot be read.
    """
    location = job.location
    found, input_dtype = arrangement(location, predictor.ndim), pixel_type(location)
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
    says = metadata(location, predictor.ndim)
    provenance = Provenance(f"msdtool {msdtool.__version__}", predictor.digest, command)
    scale = predictor.model.architecture.scale

    def result(path: Path, channels: int, dtype: np.dtype[Any], *, are_labels: bool) -> Result:
        kept = says.of_result(found.axes, channels, scale=scale, are_values=is_regression)
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
            description=Description(kept, provenance, job.encoding.packing(dtype)),
        )

    is_regression = predictor.label_map is None
    dtype = job.encoding.dtype_for(input_dtype, predictor.result_dtype)
    if is_regression:
        return [(job.output, result(job.output, predictor.c_out, dtype, are_labels=False))]
    results = [(job.output, result(job.output, 1, dtype, are_labels=True))]
    if job.probabilities is not None:
        scores = result(job.probabilities, predictor.c_out, np.dtype(np.float32), are_labels=False)
        results.append((job.probabilities, scores))
    return results
