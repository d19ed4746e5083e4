"""Figures of a run while it is training, at little cost."""

import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from msdtool.data import Pairs
from msdtool.data.slabs import central_slice
from msdtool.measure.comparisons import Comparison, compare
from msdtool.report.curves import save_curves
from msdtool.report.pictures import save_comparisons
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.runs.rundir import RunDirectory
from msdtool.train.events import Validation

SHARE_OF_TIME = 0.05
"""Figures are redrawn only while drawing has taken at most this fraction of the time so far."""


class RunPictures:
    """Draws the best, a typical and the worst validation image, and the curves, of a run.

    Args:
        directory: where to write the figures.
        network: whose outputs are drawn.
        num_labels: 0 for a regression.
        data_range: value range that PSNR and SSIM refer to.
    """

    def __init__(
        self, directory: RunDirectory, network: nn.Module, num_labels: int, data_range: float
    ) -> None:
        self.directory = directory
        self.network = network
        self.num_labels = num_labels
        self.data_range = data_range
        self.started = time.monotonic()
        self.spent = 0.0
        self.latest: tuple[Pairs, Validation] | None = None

    def update(self, pairs: Pairs, validation: Validation) -> None:
        """Remember the best validation so far, and draw it if there is time."""
        self.latest = (pairs, validation)
        if self.spent <= SHARE_OF_TIME * (time.monotonic() - self.started):
            self._draw(pairs, validation)
            self._draw_curves()

    def finish(self) -> None:
        """Draw the curves and the outputs of the best network, whose weights are loaded."""
        self._draw_curves()
        if self.latest is not None:
            best = load_checkpoint(self.directory.best)
            self.network.load_state_dict(best.model.state)
            self._draw(*self.latest)

    def _draw_curves(self) -> None:
        start = time.monotonic()
        rows = [row for row in self.directory.read_rows() if row.get("event") == "epoch"]
        save_curves(self.directory.report / "curves.png", {self.directory.path.name: rows})
        self.spent += time.monotonic() - start

    def _draw(self, pairs: Pairs, validation: Validation) -> None:
        start = time.monotonic()
        order = np.argsort(validation.image_losses)
        chosen = {"best": order[0], "typical": order[len(order) // 2], "worst": order[-1]}
        for name, index in chosen.items():
            comparison = self._compare(pairs, int(index), f"{name} of {len(order)}")
            path = self.directory.previews / f"{name}.png"
            save_comparisons(path, [comparison], self.num_labels)
        self.spent += time.monotonic() - start

    def _compare(self, pairs: Pairs, index: int, rank: str) -> Comparison:
        sample = pairs.sample(index)
        device = next(self.network.parameters()).device
        with torch.no_grad():
            output = self.network(sample.input.unsqueeze(0).to(device))[0].cpu()
        title = f"{rank}, {Path(pairs.name(index)).name}"
        shown = sample._replace(input=central_slice(sample.input, pairs.slab))
        return compare(shown, output, self.num_labels, self.data_range, title)
