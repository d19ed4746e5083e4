"""Compares msdtool's network with others, and with methods that learn nothing, on four tasks.

`make quality` runs it, in an environment with the other networks: BasicUNet of MONAI with about
2 million and about 125,000 parameters, and the mixed-scale dense network of auto-denoise as it
comes. All are trained on the same images, crops and symmetries, in the same order, on one core:

- by Adam with a warm-up, a cosine and clipping, as `msdtool train` does by default;
- with the same loss, between the same scaling layers;
- for the same CPU time, and then for the same number of updates, that of the slowest.

msdtool's learning rate is its default; that of each other network is the better of two on the
validation images of the shapes. Results go to results.jsonl in the folder, line by line: a run that
was stopped goes on where it was.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from torch import Tensor, nn

from msdtool.config import load_config
from msdtool.data.build import build_batches, build_samples
from msdtool.data.loaders import training_batches
from msdtool.data.writers import write_tiff
from msdtool.demo.foam import write_foam
from msdtool.demo.rivals import non_local_means, total_variation
from msdtool.demo.shapes import write_shapes
from msdtool.demo.tomograms import disc, write_tomograms
from msdtool.measure.metrics import SegmentationMetrics, psnr
from msdtool.train.optim import build_optimizer
from msdtool.train.prepare import prepare_run
from msdtool.train.run import TrainingRun

RATES = (3e-3, 1e-2)
STRENGTHS = tuple(0.1 * 2 ** (k / 2) for k in range(7))
TUNED_ON = "shapes"
WARMUP = 50
FEATURES = {  # of BasicUNet, by parameters and number of axes
    ("2 million", 2): (32, 32, 64, 128, 256, 32),
    ("2 million", 3): (19, 19, 38, 76, 152, 19),
    ("125,000", 2): (8, 8, 16, 32, 64, 8),
    ("125,000", 3): (5, 5, 10, 20, 40, 5),
}
MSDTOOL = "msdtool, depth 30"
NETWORKS = (MSDTOOL, "U-Net, 2 million", "U-Net, 125,000", "auto-denoise MS-D")
FOAM_SLICES = {"validation": range(14, 18), "test": (0, 4, 8, 12, 20, 24, 28)}
VOLUME_COLUMNS = {"train": (0, 96), "validation": (96, 128), "test": (128, 192)}

VOLUME = """\
task: segmentation
data:
  train: {input: train/noisy, target: train/labels}
  labels: 2
  crop: 32
  augment: true
network: {depth: 30, ndim: 3}
training: {batch_size: 1, loss: cross_entropy}
"""


@dataclass(frozen=True)
class Task:
    """What is learnt: a folder of data with a config, and the labels if it is a segmentation."""

    write: Callable[[Path], Path]
    labels: int = 0
    changes: tuple[str, ...] = ()


def write_volume(folder: Path) -> Path:
    """Write a noisy volume of foam, of which one half is labelled, for networks of volumes."""
    write_foam(folder / "scan")
    noisy, clean = (
        tifffile.imread(folder / "scan" / f"{name}.tif").reshape(32, 192, 192)
        for name in ("split_1", "clean")
    )
    labels = (clean > 0.5).astype(np.uint8)
    for part, (start, stop) in VOLUME_COLUMNS.items():
        for kind, volume in (("noisy", noisy), ("labels", labels)):
            path = folder / part / kind / "volume.tif"
            write_tiff(path, np.ascontiguousarray(volume[np.newaxis, ..., start:stop]))
    config = folder / "volume.yaml"
    config.write_text(VOLUME)
    return config


TASKS = {
    "shapes": Task(write_shapes, labels=5, changes=("data.crop=128",)),
    "tomograms": Task(write_tomograms),
    "foam": Task(write_foam),
    "volume": Task(write_volume, labels=2),
}


def images(task: str, folder: Path, part: str) -> Iterator[tuple[Tensor, np.ndarray[Any, Any]]]:
    """Inputs [K, 1, *space] of which the outputs are averaged, and the truth [*space]."""
    if task == "foam":
        splits = np.stack([tifffile.imread(folder / f"split_{k}.tif") for k in range(1, 5)])
        splits = splits.reshape(4, 32, 192, 192)
        clean = tifffile.imread(folder / "clean.tif").reshape(32, 192, 192)
        for z in FOAM_SLICES[part]:
            others = (splits[:, z].sum(0) - splits[:, z]) / 3
            yield torch.from_numpy(others[:, np.newaxis]), clean[z]
        return
    truth = "labels" if TASKS[task].labels else "clean"
    for path in sorted((folder / part / "noisy").glob("*.tif")):
        input = tifffile.imread(path).squeeze()[np.newaxis, np.newaxis]
        yield torch.from_numpy(input), tifffile.imread(folder / part / truth / path.name).squeeze()


def score(task: str, folder: Path, part: str, compute: Callable[[Tensor], Tensor]) -> float:
    """The mean IoU of a segmentation; else the mean PSNR in dB inside the disc, at a range of 1."""
    labels = TASKS[task].labels
    metrics, found = SegmentationMetrics(range(labels)), []
    for input, truth in images(task, folder, part):
        output = torch.stack([compute(one[None])[0] for one in input]).mean(0)
        if labels:
            metrics.update(output[None], torch.from_numpy(truth.astype(np.int64))[None, None])
        else:
            difference = output[0].double().numpy() - truth
            found.append(float(psnr(torch.from_numpy(difference[disc(len(truth))]), 1.0)))
    return float(metrics.compute()["mean_iou"]) if labels else statistics.fmean(found)


def other_network(name: str, ndim: int, c_out: int) -> nn.Module:
    """A network of another package."""
    if name.startswith("U-Net"):
        from monai.networks.nets import BasicUNet  # noqa: PLC0415 - of `make quality` only

        features = FEATURES[name.removeprefix("U-Net, "), ndim]
        return BasicUNet(ndim, in_channels=1, out_channels=c_out, features=features)
    from autoden.models.msd import MSDnet  # noqa: PLC0415 - of `make quality` only

    return MSDnet(1, c_out, n_dims=ndim, device="cpu")


@dataclass(frozen=True)
class Budget:
    """How long to train: CPU seconds, or updates."""

    seconds: float = math.inf
    updates: float = math.inf

    def spent(self, updates: int, seconds: float) -> float:
        """The fraction that is used."""
        return max(updates / self.updates, seconds / self.seconds)


def train(run: TrainingRun, network: nn.Module, rate: float, budget: Budget) -> dict[str, float]:
    """Train by the recipe of `msdtool train`; return the updates made and CPU seconds taken."""
    optimizer = build_optimizer("adam", network.parameters(), rate, 0.0)
    order = build_batches(run.config, len(run.train_pairs), 0)
    samples = build_samples(run.config, run.train_pairs, run.record.normalisation.input_std)
    network.train()
    with closing(training_batches(samples, order, 0)) as batches:
        first = next(batches)  # compiles what is compiled
        run.learner.loss(network(first.input), first.target, first.mask).backward()
        start = time.process_time()
        for update, sample in enumerate(batches):
            seconds = time.process_time() - start
            spent = budget.spent(update, seconds)
            if spent >= 1:
                break
            rising = min(max((update + 1) / (WARMUP + 1), 10 * spent), 1.0)
            optimizer.param_groups[0]["lr"] = rate * rising * 0.5 * (1 + math.cos(math.pi * spent))
            optimizer.zero_grad()
            run.learner.loss(network(sample.input), sample.target, sample.mask).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
    network.eval()
    return {"updates": update, "seconds": round(seconds, 1)}


@dataclass(frozen=True)
class Comparison:
    """Trains what is not in the folder's results yet."""

    folder: Path
    seconds: float

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All results so far."""
        path = self.folder / "results.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @cache  # noqa: B019 - there is one comparison
    def config(self, task: str) -> Path:
        """The config of a task, whose data are written if they are not there."""
        configs = list((self.folder / task).glob("*.yaml"))
        return configs[0] if configs else TASKS[task].write(self.folder / task)

    def result(
        self, task: str, name: str, seed: int, rate: float, updates: int = 0
    ) -> dict[str, Any]:
        """The row of a training: of so many updates, or of the time that all have."""
        key: dict[str, Any] = {"task": task, "network": name, "seed": seed, "rate": rate}
        key |= {"budget": f"{updates} updates" if updates else f"{self.seconds:g} s"}
        for row in self.rows:
            if key.items() <= row.items():
                return row
        settings = ["network.depth=30", "training.epochs=100000", f"training.seed={seed}"]
        settings += [f"run.directory={self.folder / 'run'}", *TASKS[task].changes]
        path = self.config(task)
        run = prepare_run(load_config(path, settings), overwrite=True)
        try:
            network = run.learner.network
            if name != MSDTOOL:
                torch.manual_seed(seed)
                network.msd = other_network(name, network.ndim, network.c_out)
            budget = Budget(updates=updates) if updates else Budget(seconds=self.seconds)
            row = key | train(run, network, rate, budget)
        finally:
            run.directory.release()
        row["parameters"] = sum(p.numel() for p in network.msd.parameters())
        with torch.no_grad():
            for part in ("validation", "test"):
                row[part] = score(task, path.parent, part, network)
        return self._add(row)

    def classical(self, task: str, name: str, method: Callable[[Any, float], Any]) -> None:
        """Add the row of a method that learns nothing, its strength tuned on validation images."""
        if any(row["task"] == task and row["network"] == name for row in self.rows):
            return
        folder = self.config(task).parent

        def quality(part: str, strength: float) -> float:
            def compute(input: Tensor) -> Tensor:
                return torch.from_numpy(method(input[0, 0].numpy(), strength))[None, None]

            return score(task, folder, part, compute)

        found = {strength: quality("validation", strength) for strength in STRENGTHS}
        best = max(found, key=found.__getitem__)
        row = {"task": task, "network": name, "strength": best, "validation": found[best]}
        self._add(row | {"test": quality("test", best)})

    def _add(self, row: dict[str, Any]) -> dict[str, Any]:
        with (self.folder / "results.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
        return row

    def rate(self, task: str, name: str) -> float:
        """The learning rate of a network: msdtool's default, or the better one for the shapes."""
        if name == MSDTOOL:
            return load_config(self.config(task)).training.learning_rate
        rows = [self.result(TUNED_ON, name, 0, rate) for rate in RATES]
        return max(rows, key=lambda row: row["validation"])["rate"]

    def of_time(self, task: str, name: str, seed: int) -> dict[str, Any]:
        """The row of a network that had the time that all have."""
        return self.result(task, name, seed, self.rate(task, name))

    def of_updates(self, task: str, name: str, seed: int) -> dict[str, Any]:
        """The row of a network that made as many updates as the slowest in that time."""
        rows = {other: self.of_time(task, other, seed) for other in NETWORKS}
        slowest = min(rows, key=lambda other: rows[other]["updates"])
        if name == slowest:
            return rows[name]
        return self.result(task, name, seed, rows[name]["rate"], rows[slowest]["updates"])


def bm3d(image: Any, strength: float) -> Any:
    """Block matching and 3D filtering (Dabov et al. 2007), as its authors' package does it."""
    from bm3d import bm3d as denoise  # noqa: PLC0415 - of `make quality` only

    return denoise(image, strength)


METHODS = {"total variation": total_variation, "non-local means": non_local_means, "BM3D": bm3d}


def table(comparison: Comparison, seeds: int) -> str:
    """Markdown: mean and standard deviation over the seeds; all of them must have been trained."""
    lines = []
    for title, of in (("equal time", comparison.of_time), ("equal updates", comparison.of_updates)):
        lines += [f"| {title} | " + " | ".join(TASKS) + " |", "| --- " * (len(TASKS) + 1) + "|"]
        for name in NETWORKS:
            cells = [_cell([of(task, name, seed) for seed in range(seeds)]) for task in TASKS]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["| learns nothing | tomograms | foam |", "| --- | --- | --- |"]
    for name in METHODS:
        found = {row["task"]: row["test"] for row in comparison.rows if row["network"] == name}
        lines.append(f"| {name} | {found['tomograms']:.2f} dB | {found['foam']:.2f} dB |")
    return "\n".join(lines) + "\n"


def _cell(rows: list[dict[str, Any]]) -> str:
    values, updates = [row["test"] for row in rows], [row["updates"] for row in rows]
    digits, unit = (3, "") if TASKS[rows[0]["task"]].labels else (2, " dB")
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    mean = f"{statistics.fmean(values):.{digits}f}{spread}{unit}"
    return f"{mean} ({statistics.fmean(updates):.0f})"


def main() -> None:
    """Compare all; the table is written when all of it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0, help="CPU time of each training")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    comparison = Comparison(arguments.folder, arguments.seconds)
    for of in (comparison.of_time, comparison.of_updates):
        for seed in range(arguments.seeds):
            for task in TASKS:
                for name in NETWORKS:
                    of(task, name, seed)
    for task in ("tomograms", "foam"):
        for name, method in METHODS.items():
            comparison.classical(task, name, method)
    text = table(comparison, arguments.seeds)
    (comparison.folder / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
