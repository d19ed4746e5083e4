"""msdtool report"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msdtool.atomic import PNG_START, check_place
from msdtool.cli import console
from msdtool.cli.console import number
from msdtool.cli.options import Json
from msdtool.file_errors import cannot_write

if TYPE_CHECKING:
    from msdtool.report.repeats import Repeats

Cells = dict[str, tuple[float | None, Sequence[float | None], int]]
"""By metric: the value, its interval, and the number of images."""


def command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run directories.")],
    figure: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw the runs' learning curves.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the results of one or several runs side by side.

    Runs that were evaluated on the same targets are compared with the first one, image by image.

    Example: msdtool report runs/* --figure curves.png
    """
    from msdtool.report.evaluations import compare, in_short, read_evaluations
    from msdtool.report.repeats import repeats
    from msdtool.report.settings import differing_settings, in_words
    from msdtool.report.summary import read_runs, summarise

    if figure is not None:
        with cannot_write(figure):
            check_place(figure, PNG_START)
    rows = read_runs(runs)
    summaries = {name: summarise(found) for name, found in rows.items()}
    settings = differing_settings(runs)
    evaluations = read_evaluations(runs)
    differences = compare(evaluations)
    groups = repeats(summaries, settings)
    if figure is not None:
        from msdtool.report.curves import save_curves

        words = {name: in_words(settings.get(name, {})) for name in rows}
        save_curves(
            figure,
            {
                f"{name}: {words[name]}" if words[name] else name: found
                for name, found in rows.items()
            },
        )
    if json:
        console.result_json(
            {
                name: {
                    **summary,
                    "settings": settings.get(name, {}),
                    "evaluation": in_short(evaluations.get(name)),
                    "difference": differences.get(name),
                    "repeats": next(
                        (group._asdict() for group in groups if name in group.runs), None
                    ),
                }
                for name, summary in summaries.items()
            }
        )
    else:
        parts = [
            _text(summaries),
            *_settings_text(settings),
            *_repeats_text(groups),
            *_evaluation_text(evaluations, differences),
        ]
        console.result_text("\n\n".join(parts))


def _text(summaries: dict[str, dict[str, Any]]) -> str:
    keys = list(dict.fromkeys(key for summary in summaries.values() for key in summary))
    lines = [["run", *keys]]
    for name, summary in summaries.items():
        values = (summary.get(key) for key in keys)
        lines.append([name, *("-" if value is None else number(value) for value in values)])
    return console.columns(lines)


def _settings_text(settings: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The config keys in which the runs differ."""
    from msdtool.report.settings import shown

    keys = list(next(iter(settings.values()), {}))
    if keys:
        lines = [["run", *keys]]
        lines += [[name, *(shown(found[key]) for key in keys)] for name, found in settings.items()]
        yield "settings that differ\n" + console.columns(lines)


def _repeats_text(groups: "Sequence[Repeats]") -> Iterator[str]:
    """Means and standard deviations of runs that differ in nothing but the seed."""
    from msdtool.report.settings import shown

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
        yield "mean and standard deviation over seeds\n" + console.columns(lines)


def _evaluation_text(
    evaluations: dict[str, dict[str, Any]], differences: dict[str, dict[str, Any]]
) -> Iterator[str]:
    """The last evaluation of each run, what they differ by, and confusion matrices."""
    if not evaluations:
        return
    intervals: dict[str, Cells] = {
        name: {
            key: (value, content["intervals"].get(key, ()), len(content["images"]))
            for key, value in content["output"].items()
            if isinstance(value, (int, float))
        }
        for name, content in evaluations.items()
    }
    yield "evaluated, with 95 % intervals\n" + _interval_table(intervals)
    first, *others = evaluations
    if differences:
        shown: dict[str, Cells] = {
            name: {
                key: (found["difference"], found["interval"], found["images"])
                for key, found in difference.items()
                if key in intervals[first]
            }
            for name, difference in differences.items()
        }
        yield f"difference from {first}, image by image\n" + _interval_table(shown)
    missing = [name for name in others if name not in differences]
    if missing:
        yield (
            f"not compared with {first}, evaluated on different targets or with a different value "
            f"range: {', '.join(missing)}"
        )
    for name, content in evaluations.items():
        if content["confusion"] is not None:
            yield f"pixels by label, {name}\n" + console.confusion(content["confusion"])


def _interval_table(rows: dict[str, Cells]) -> str:
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = [["run", "images", *keys]]
    for name, row in rows.items():
        cells = [_cell(*row[key][:2]) if key in row else "-" for key in keys]
        images = max((number for *_, number in row.values()), default=0)
        lines.append([name, str(images), *cells])
    return console.columns(lines)


def _cell(value: float | None, interval: Sequence[float | None]) -> str:
    if value is None:
        return "-"
    bounds = console.bounds(interval)
    return f"{number(value)} ({bounds})" if bounds else number(value)
