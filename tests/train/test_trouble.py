import pytest

from msdtool.train.trouble import Trouble


def rows(losses, steps_per_epoch=100, **values):
    return [
        {"epoch": epoch, "step": epoch * steps_per_epoch, "train_loss": loss}
        | {name: series[epoch - 1] for name, series in values.items()}
        for epoch, loss in enumerate(losses, start=1)
    ]


def signs(trouble, found):
    return [trouble.signs(row) for row in found]


def test_a_loss_that_rises_is_told_once():
    first, second, third, fourth = signs(Trouble(1000), rows([1.0, 1.9, 2.1, 5.0]))
    assert (first, second, fourth) == ([], [], [])
    (text,) = third
    assert text.startswith("the training loss has risen from 1 to 2.1 (epoch 3): training diverges")
    assert "lower training.learning_rate" in text


@pytest.mark.parametrize("losses", [[1.0, 0.5, 0.9, 0.4], [0.0, 1.0], [-1.0, 3.0]])
def test_a_loss_that_falls_or_is_noisy_is_not(losses):
    assert not any(signs(Trouble(1000), rows(losses)))


def test_outputs_no_better_than_doing_nothing_are_told_after_a_quarter_of_the_updates():
    gains = {"psnr": [25.0] * 6, "baseline_psnr": [26.0] * 6, "gain_psnr": [-1.0] * 6}
    found = signs(Trouble(1600), rows([1.0] * 6, **gains))
    assert [len(texts) for texts in found] == [0, 0, 0, 1, 0, 0]
    assert (
        "after 400 updates the outputs are no better than the unchanged input (psnr 25"
        in (found[3][0])
    )


def test_one_gain_is_enough():
    gains = {
        "accuracy": [0.9] * 9,
        "baseline_accuracy": [0.8] * 9,
        "gain_accuracy": [0.1, *[0] * 8],
    }
    assert not any(signs(Trouble(400), rows([1.0] * 9, **gains)))


def test_a_short_run_is_given_200_updates():
    gains = {"accuracy": [0.5] * 3, "baseline_accuracy": [0.5] * 3, "gain_accuracy": [0.0] * 3}
    found = signs(Trouble(300), rows([1.0] * 3, 70, **gains))
    assert [len(texts) for texts in found] == [0, 0, 1]
    assert "the most frequent label alone" in found[2][0]
