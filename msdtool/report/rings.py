"""The correlation of two halves over the spatial frequency."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from msdtool.measure.rings import FIXED_THRESHOLD
from msdtool.report.pictures import save_figure

COLOURS = {"half-bit": "tab:orange", "1/7": "tab:green"}


def save_correlation(path: Path, results: dict[str, Any]) -> None:
    """Draw the correlation and its thresholds, and mark the resolution; write a PNG.

    Args:
        path: the PNG.
        results: as `msdtool resolution --json` prints them.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    frequencies, unit = results["frequencies"], results["unit"]
    single = "pixel" if unit == "pixels" else unit
    axes.plot(frequencies, results["correlation"], color="tab:blue", label="correlation")
    axes.plot(frequencies, results["half_bit"], "--", color=COLOURS["half-bit"], label="half-bit")
    axes.axhline(FIXED_THRESHOLD, linestyle=":", color=COLOURS["1/7"], label="1/7")
    for name, length in results["resolution"].items():
        if length is not None:
            axes.axvline(1 / length, color=COLOURS[name], linewidth=0.8)
            axes.annotate(
                f" {length:.3g} {unit}",
                (1 / length, 1.02 if name == "half-bit" else 0.96),
                color=COLOURS[name],
                ha="right" if 1 / length > 0.75 * frequencies[-1] else "left",
            )
    axes.set(
        xlim=(0, 1 / results["nyquist"]),
        ylim=(min(-0.1, *results["correlation"]), 1.08),
        xlabel=f"spatial frequency (1/{single})",
        ylabel="Fourier correlation of the halves",
    )
    figure.legend(loc="outside lower center", ncols=3)
    save_figure(path, figure)
