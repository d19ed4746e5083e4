"""What an experiment's normalisation would do to its images."""

from collections.abc import Sequence

from msdtool.check.report import Report
from msdtool.config import ExperimentConfig
from msdtool.data import Pairs
from msdtool.data.own_levels import with_levels
from msdtool.errors import InputError
from msdtool.train.normalise import measure_normalisation


def describe(config: ExperimentConfig, train: Pairs, report: Report) -> None:
    """Say by which levels the training images would be scaled; add what is wrong with them.

    Args:
        config: the experiment.
        train: the training set, whose images have been read.
        report: what is known of them; gets the description, a warning or a problem.
    """
    how = config.data.normalisation.to_scaling()
    report.normalisation = str(how)
    facts = report.stacks.get(("train", "input"))
    if how.method == "mean_std" and not how.is_per_image and facts is not None:
        report.normalisation += f": training inputs have the mean {facts.mean:.6g}"
    own = with_levels(train)
    if own is not None and own.known:
        shift, scale = zip(*(levels.tolist() for levels in own.known.values()), strict=True)
        texts = [_span([v for values in kind for v in values]) for kind in (shift, scale)]
        report.normalisation += f": subtract {texts[0]}, divide by {texts[1]}"
    if how.method == "percentile" and own is None and not report.problems:
        try:
            input = measure_normalisation(config, train).input
        except InputError as error:
            report.problems.append(error.message)
            return
        report.normalisation += f": subtract {_span(input.shift)}, divide by {_span(input.scale)}"
    if how.method == "range":
        for kind, bounds in (("input", how.range), ("target", how.target_range or how.range)):
            _beyond(kind, bounds, report)


def _beyond(kind: str, bounds: tuple[float, ...], report: Report) -> None:
    """Warn of values outside a range."""
    facts = report.stacks.get(("train", kind))
    if facts is None or (kind == "target" and report.label_counts):
        return
    if facts.minimum < bounds[0] or facts.maximum > bounds[1]:
        report.warnings.append(
            f"training {kind}s have values from {facts.minimum:.6g} to {facts.maximum:.6g}, and "
            f"data.normalisation takes {bounds[0]:g} to {bounds[1]:g} for 0 to 1"
        )


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
