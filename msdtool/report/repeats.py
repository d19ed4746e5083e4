"""Runs that differ only in their seed: mean and spread of their results."""

from collections.abc import Mapping
from json import dumps
from statistics import fmean, stdev
from typing import Any, NamedTuple

SEED = "training.seed"
NO_RESULTS = ("epochs", "best_epoch")


class Repeats(NamedTuple):
    """Runs of one experiment with several seeds.

    Attributes:
        runs: their names.
        settings: what other groups have otherwise, by key.
        results: mean and standard deviation of what all of them have, by name.
    """

    runs: list[str]
    settings: dict[str, Any]
    results: dict[str, tuple[float, float]]


def repeats(
    summaries: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Mapping[str, Any]]
) -> list[Repeats]:
    """Group runs that differ in nothing but the seed; return the groups of two or more.

    Args:
        summaries: of each run, by its name; see `msdtool.report.summary.summarise`.
        settings: in which the runs differ; see `msdtool.report.settings.differing_settings`.
    """
    groups: dict[str, list[str]] = {}
    for name, found in settings.items():
        if SEED in found:
            rest = {key: value for key, value in found.items() if key != SEED}
            groups.setdefault(dumps(rest, sort_keys=True), []).append(name)
    return [
        Repeats(
            names,
            {key: value for key, value in settings[names[0]].items() if key != SEED},
            _spread([summaries[name] for name in names]),
        )
        for names in groups.values()
        if len({settings[name][SEED] for name in names}) > 1
    ]


def _spread(summaries: list[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    found = {}
    for key in summaries[0]:
        values = [summary.get(key) for summary in summaries]
        numbers = [value for value in values if isinstance(value, (int, float))]
        if key not in NO_RESULTS and len(numbers) == len(summaries):
            found[key] = fmean(numbers), stdev(numbers)
    return found
