"""Tables of runs side by side: results, settings, spread over seeds, evaluations."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msdtool.report.evaluations import compare, read_evaluations
from msdtool.report.repeats import Repeats, repeats
from msdtool.report.settings import differing_settings, in_words, shown
from msdtool.report.summary import read_runs, summarise
from msdtool.wording import bounds, number

Content = dict[str, Any]
Cells = dict[str, tuple[float | None, Sequence[float | None], int]]
"""By metric: the value, its interval, and the number of images."""


class Table(NamedTuple):
    """Cells under a title.

    Attributes:
        title: what stands above; "" for nothing.
        lines: cells by line, the names of the columns first; empty if the title says it all.
    """

    title: str
    lines: list[list[str]]


class Results(NamedTuple):
    """What is known of several runs, by the run's path as it was given.

    Attributes:
        rows: the rows of their epochs.
        summaries: see `msdtool.report.summary.summarise`.
        settings: in which they differ; see `msdtool.report.settings.differing_settings`.
        evaluations: the last evaluation of those that have one.
        differences: from the first run; see `msdtool.report.evaluations.compare`.
        repeats: the groups of those that differ in nothing but the seed.
    """

    rows: dict[str, list[Content]]
    summaries: dict[str, Content]
    settings: dict[str, Content]
    evaluations: dict[str, Content]
    differences: dict[str, Content]
    repeats: list[Repeats]

    @property
    def curves(self) -> dict[str, list[Content]]:
        """The rows by what a legend calls the run: its path, and a few settings."""
        words = {name: in_words(self.settings.get(name, {})) for name in self.rows}
        return {
            f"{name}: {words[name]}" if words[name] else name: found
            for name, found in self.rows.items()
        }


def read_results(paths: Sequence[Path]) -> Results:
    """Read what the directories of runs tell of their results.

    Raises:
        ModelFileError: a path is not a run directory, the run has not finished an epoch, or a file
            cannot be read.
    """
    rows = read_runs(paths)
    summaries = {name: summarise(found) for name, found in rows.items()}
    settings = differing_settings(paths)
    evaluations = read_evaluations(paths)
    return Results(
        rows, summaries, settings, evaluations, compare(evaluations), repeats(summaries, settings)
    )


def tables(results: Results) -> Iterator[Table]:
    """Yield the tables of runs, without those that have nothing to tell."""
    yield _best_epochs(results.summaries)
    yield from _settings(results.settings)
    yield from _spread(results.repeats)
    if results.evaluations:
        yield from _evaluations(results.evaluations, results.differences)


def _best_epochs(summaries: Mapping[str, Content]) -> Table:
    keys = list(dict.fromkeys(key for summary in summaries.values() for key in summary))
    lines = [["run", *keys]]
    for name, summary in summaries.items():
        values = (summary.get(key) for key in keys)
        lines.append([name, *("-" if value is None else number(value) for value in values)])
    return Table("", lines)


def _settings(settings: Mapping[str, Content]) -> Iterator[Table]:
    """The config keys in which the runs differ."""
    keys = list(next(iter(settings.values()), {}))
    if keys:
        lines = [["run", *keys]]
        lines += [[name, *(shown(found[key]) for key in keys)] for name, found in settings.items()]
        yield Table("settings that differ", lines)


def _spread(groups: Sequence[Repeats]) -> Iterator[Table]:
    """Means and standard deviations of runs that differ in nothing but the seed."""
    if groups:
        keys, names = list(groups[0].settings), list(groups[0].results)
        lines = [[*keys, "runs", *names]]
        for group in groups:
            cells = [
                "{} +- {}".format(*map(number, group.results[name]))
                if name in group.results
                else "-"
                for name in names
            ]
            settings = (shown(group.settings[key]) for key in keys)
            lines.append([*settings, str(len(group.runs)), *cells])
        yield Table("mean and standard deviation over seeds", lines)


def _evaluations(
    evaluations: Mapping[str, Content], differences: Mapping[str, Content]
) -> Iterator[Table]:
    """The last evaluation of each run, and what they differ by."""
    intervals: dict[str, Cells] = {
        name: {
            key: (value, content["intervals"].get(key, ()), len(content["images"]))
            for key, value in content["output"].items()
            if isinstance(value, (int, float))
        }
        for name, content in evaluations.items()
    }
    yield Table("evaluated, with 95 % intervals", _interval_lines(intervals))
    first, *others = evaluations
    if differences:
        found: dict[str, Cells] = {
            name: {
                key: (found["difference"], found["interval"], found["images"])
                for key, found in difference.items()
                if key in intervals[first]
            }
            for name, difference in differences.items()
        }
        yield Table(f"difference from {first}, image by image", _interval_lines(found))
    missing = [name for name in others if name not in differences]
    if missing:
        yield Table(
            f"not compared with {first}, evaluated on different targets or with a different value "
            f"range: {', '.join(missing)}",
            [],
        )


def _interval_lines(rows: Mapping[str, Cells]) -> list[list[str]]:
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = [["run", "images", *keys]]
    for name, row in rows.items():
        cells = [_cell(*row[key][:2]) if key in row else "-" for key in keys]
        images = max((number for *_, number in row.values()), default=0)
        lines.append([name, str(images), *cells])
    return lines


def _cell(value: float | None, interval: Sequence[float | None]) -> str:
    if value is None:
        return "-"
    found = bounds(interval)
    return f"{number(value)} ({found})" if found else number(value)
