"""msdtool report"""

from pathlib import Path
from typing import Annotated, Any

import typer

from msdtool.cli import console
from msdtool.cli.console import number
from msdtool.cli.options import Json


def command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run directories.")],
    figure: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw the runs' learning curves.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the results of one or several runs side by side.

    Example: msdtool report runs/* --figure curves.png
    """
    from msdtool.report.summary import read_runs, summarise

    rows = read_runs(runs)
    summaries = {name: summarise(found) for name, found in rows.items()}
    if figure is not None:
        from msdtool.report.curves import save_curves

        save_curves(figure, rows)
    if json:
        console.result_json(summaries)
    else:
        console.result(_text(summaries))


def _text(summaries: dict[str, dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for summary in summaries.values() for key in summary))
    lines = [["run", *columns]]
    for name, summary in summaries.items():
        values = (summary.get(column) for column in columns)
        lines.append([name, *("-" if value is None else number(value) for value in values)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
