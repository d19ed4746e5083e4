import sys

import pytest

from msdtool.errors import ConfigError
from msdtool.train.tensorboard import TensorBoardLog


def test_the_numbers_of_each_epoch_are_logged(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = TensorBoardLog(tmp_path / "tensorboard")
    for epoch in (1, 2):
        log.add({"epoch": epoch, "train_loss": 1 / epoch, "psnr": 20.5, "iou": {"0": 0.1}})
    events = reader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert sorted(events.Tags()["scalars"]) == ["psnr", "train_loss"]
    losses = [(event.step, event.value) for event in events.Scalars("train_loss")]
    assert losses == [(1, 1.0), (2, 0.5)]


def test_without_the_package_the_key_is_a_config_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"run\.tensorboard: TensorBoard is not installed; pip"):
        TensorBoardLog(tmp_path)
