"""Figures of a run while it is training, at little cost."""

import time
from collections.abc import Sequence

import torch
from torch import nn

from msdtool.data import Pairs
from msdtool.data.levels import in_data_units, in_own_scale
from msdtool.data.slabs import central_slice
from msdtool.measure.comparisons import Comparison, compare, rank_text, ranked
from msdtool.report.curves import save_curves
from msdtool.report.pictures import save_comparisons
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.runs.rundir import RunDirectory
from msdtool.specifier_grammar import without_folder
from msdtool.train.events import Validation

SHARE_OF_TIME = 0.05
"""Figures are redrawn only while drawing has taken at most this fraction of the time so far."""


class RunPictures:
    """Draws the best, a typical and the worst validation image, and the curves, of a run.

    Args:
        directory: where to write the figures.
        network: whose outputs are drawn.
        labels: the label values; empty for a regression.
        data_range: value range that PSNR and SSIM refer to; None: they are left out.

    Attributes:
        chosen: indices of the images to draw, by the loss of the best network so far.
    """

    def __init__(
        self,
        directory: RunDirectory,
        network: nn.Module,
        labels: Sequence[int],
        data_range: float | None,
    ) -> None:
        self.directory = directory
        self.network = network
        self.labels = labels
        self.data_range = data_range
        self.started = time.monotonic()
        self.spent = 0.0
        self.chosen: dict[str, int] = {}

    def choose(self, validation: Validation) -> None:
        """Choose the images to draw by the best validation so far."""
        self.chosen = ranked(validation.image_losses)

    def update(self, pairs: Pairs) -> None:
        """Draw the chosen images and the curves, if there is time."""
        if self.spent <= SHARE_OF_TIME * (time.monotonic() - self.started):
            self._draw(pairs)
            self._draw_curves()

    def finish(self, pairs: Pairs | None) -> None:
        """Draw the curves and the outputs of the best network, whose weights are loaded."""
        self._draw_curves()
        if pairs is not None and self.chosen:
            best = load_checkpoint(self.directory.best)
            self.network.load_state_dict(best.model.state)
            self._draw(pairs)

    def _draw_curves(self) -> None:
        start = time.monotonic()
        rows = [row for row in self.directory.read_rows() if row.get("event") == "epoch"]
        save_curves(self.directory.report / "curves.png", {self.directory.path.name: rows})
        self.spent += time.monotonic() - start

    def _draw(self, pairs: Pairs) -> None:
        start = time.monotonic()
        for name, index in self.chosen.items():
            comparison = self._compare(pairs, index, rank_text(name, len(pairs)))
            path = self.directory.previews / f"{name}.png"
            save_comparisons(path, [comparison], self.labels)
        self.spent += time.monotonic() - start

    def _compare(self, pairs: Pairs, index: int, rank: str) -> Comparison:
        sample = pairs.sample(index)
        device = next(self.network.parameters()).device
        with torch.no_grad():
            input = in_own_scale(sample).input.unsqueeze(0)
            output = in_data_units(self.network(input.to(device))[0].cpu(), sample)
        title = f"{rank}, {without_folder(pairs.name(index))}"
        shown = sample._replace(input=central_slice(sample.input, pairs.slab))
        output = output if self.labels else output[: len(sample.target)]  # bounds follow
        return compare(shown, output, len(self.labels), self.data_range, title)
