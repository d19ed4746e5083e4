"""msdtool report"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msdtool.atomic import PNG_START, check_place
from msdtool.cli import console
from msdtool.cli.options import Json
from msdtool.file_errors import cannot_write

if TYPE_CHECKING:
    from msdtool.report.tables import Results


def command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run directories.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="HTML", help="Write a page with pictures, to be shown."
        ),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw the runs' learning curves.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the results of one or several runs side by side.

    Runs that were evaluated on the same targets are compared with the first one, image by image.

    Example: msdtool report runs/* -o report.html
    """
    from msdtool.report.html import HTML_START
    from msdtool.report.tables import read_results

    for path, start in ((output, HTML_START), (figure, PNG_START)):
        if path is not None:
            with cannot_write(path):
                check_place(path, start)
    results = read_results(runs)
    if figure is not None:
        from msdtool.report.curves import save_curves

        save_curves(figure, results.curves)
    if output is not None:
        from msdtool.report.page import save_page

        save_page(output, results)
    if json:
        console.result_json(_by_run(results))
    else:
        console.result_text("\n\n".join(_texts(results)))


def _by_run(results: "Results") -> dict[str, dict[str, Any]]:
    from msdtool.report.evaluations import in_short

    return {
        name: {
            **summary,
            "settings": results.settings.get(name, {}),
            "evaluation": in_short(results.evaluations.get(name)),
            "difference": results.differences.get(name),
            "repeats": next(
                (group._asdict() for group in results.repeats if name in group.runs), None
            ),
        }
        for name, summary in results.summaries.items()
    }


def _texts(results: "Results") -> list[str]:
    """The tables, and confusion matrices after them."""
    from msdtool.report.tables import tables

    texts = [
        "\n".join(filter(None, (title, console.columns(lines) if lines else "")))
        for title, lines in tables(results)
    ]
    return texts + [
        f"pixels by label, {name}\n{console.confusion(content['confusion'])}"
        for name, content in results.evaluations.items()
        if content["confusion"] is not None
    ]
