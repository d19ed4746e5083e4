"""Early warnings that training is failing, each given once, with advice."""

import math
from typing import Any

from msdtool.train.baseline import COMPARED

RISE = 2.0
"""A training loss this many times the smallest so far is rising, not noisy."""
FRACTION = 0.25
LEAST_UPDATES = 200
"""A network should beat doing nothing after this fraction of the updates, and as many at least."""


class Trouble:
    """Looks at the epochs of a run, one after the other.

    Args:
        total_updates: of the whole run.
    """

    def __init__(self, total_updates: int) -> None:
        self.patience = max(LEAST_UPDATES, FRACTION * total_updates)
        self._smallest = math.inf
        self._told: set[str] = set()
        self._gained = False

    def signs(self, row: dict[str, Any]) -> list[str]:
        """Return what is wrong since the epoch of ``row``, a row of metrics.jsonl."""
        found = {"rises": self._rises(row), "useless": self._useless(row)}
        new = {kind: text for kind, text in found.items() if text and kind not in self._told}
        self._told |= new.keys()
        return list(new.values())

    def _rises(self, row: dict[str, Any]) -> str:
        loss, before = row["train_loss"], self._smallest
        self._smallest = min(before, loss)
        if not 0 < RISE * before < loss:
            return ""
        return (
            f"the training loss has risen from {before:.4g} to {loss:.4g} (epoch {row['epoch']}): "
            "training diverges; lower training.learning_rate by a factor of 3, or set "
            "training.gradient_clip and training.warmup"
        )

    def _useless(self, row: dict[str, Any]) -> str:
        names = [name for name in COMPARED if f"gain_{name}" in row]
        self._gained = self._gained or any(row[f"gain_{name}"] > 0 for name in names)
        if not names or self._gained or row["step"] < self.patience:
            return ""
        name = names[0]
        idle = "the most frequent label alone" if name == "accuracy" else "the unchanged input"
        return (
            f"after {row['step']} updates the outputs are no better than {idle} ({name} "
            f"{row[name]:.4g}, baseline {row[f'baseline_{name}']:.4g}): look at the "
            "pairs with 'msdtool check'; if they belong together, train longer, or try another "
            "training.learning_rate"
        )
