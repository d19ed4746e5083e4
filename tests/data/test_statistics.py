"""Statistics against numpy's, over all pixels at once in float64."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool import ImageDataset, InputError
from msdtool.data.moments import Moments
from msdtool.data.statistics import count_labels, measure

from ..helpers import write_stack

write = partial(write_stack, axes="CYX")


@given(
    st.integers(1, 3),
    st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any),
    st.floats(-1e12, 1e12),
    st.floats(1e-3, 1e6),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=100)
def test_moments_are_those_of_all_values(channels, lengths, offset, scale, seed):
    rng = np.random.default_rng(seed)
    parts = [offset + scale * rng.standard_normal((channels, length)) for length in lengths]
    moments = Moments()
    for part in parts:
        moments.add(part)
    everything = np.concatenate(parts, axis=1)
    # Rounding of the values themselves is all that an offset may cost.
    rounding = 1e-13 * (abs(offset) + scale)
    np.testing.assert_allclose(moments.mean, everything.mean(axis=1), rtol=1e-13, atol=rounding)
    std = everything.std(axis=1)
    seen = std > 1e-10 * (abs(offset) + scale)
    np.testing.assert_allclose(moments.std[seen], std[seen], rtol=1e-4)
    if abs(offset) < 1e3 * scale:
        np.testing.assert_allclose(moments.std[seen], std[seen], rtol=1e-9)
    assert moments.count == everything.shape[1]
    assert (moments.minimum, moments.maximum) == (everything.min(), everything.max())


def test_a_huge_offset_does_not_drown_the_spread():
    values = 1e9 + np.array([[0.0, 1.0, 2.0, 3.0]] * 1000).reshape(1, -1)
    moments = Moments()
    for part in np.split(values, 8, axis=1):
        moments.add(part)
    np.testing.assert_allclose(moments.std, np.sqrt(1.25), rtol=1e-12)
    # The sum of squares, without the care, loses all digits.
    naive = (values**2).mean() - values.mean() ** 2
    assert abs(naive - 1.25) > 1


@given(st.floats(-1e30, 1e30), st.lists(st.integers(1, 50), min_size=1, max_size=5))
@settings(deadline=None)
def test_a_constant_channel_has_std_1(value, lengths):
    moments = Moments()
    for length in lengths:
        moments.add(np.full((1, length), value))
    assert moments.std.tolist() == [1.0]


@pytest.fixture
def arrays():
    """Two-channel inputs of several sizes, far from zero, and one-channel targets."""
    rng = np.random.default_rng(0)
    shapes = [(5, 6), (7, 3), (4, 4)]
    inputs = [np.stack([rng.normal(1e4, 3, s), rng.normal(-5, 0.1, s)]) for s in shapes]
    return [a.astype(np.float32) for a in inputs], [
        rng.normal(100, 7, s).astype(np.float32) for s in shapes
    ]


def flat(images):
    return np.concatenate([a.reshape(-1, *a.shape[-2:]).reshape(len(a) if a.ndim == 3 else 1, -1)
                           for a in images], axis=1).astype(np.float64)  # fmt: skip


def test_a_data_set_is_measured_per_channel(tmp_path, arrays):
    inputs, targets = arrays
    seen = []
    dataset = ImageDataset(write(tmp_path / "in", inputs), write(tmp_path / "out", targets))
    found = measure(dataset, progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(found.input.mean, flat(inputs).mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.input.std, flat(inputs).std(axis=1), rtol=1e-9)
    np.testing.assert_allclose(found.target.mean, flat(targets).mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.target.std, flat(targets).std(axis=1), rtol=1e-9)
    assert (found.target.minimum, found.target.maximum) == (
        min(map(np.min, targets)),
        max(map(np.max, targets)),
    )
    assert found.label_counts.tolist() == []
    assert seen == [(0, 3), (1, 3), (2, 3)]


def test_masked_target_pixels_do_not_count(tmp_path, arrays):
    inputs, targets = arrays
    masks = [(np.arange(a.size).reshape(a.shape) % 3 == 0).astype(np.uint8) for a in targets]
    kept = np.concatenate([a[m != 0] for a, m in zip(targets, masks, strict=True)])
    for target, mask in zip(targets, masks, strict=True):
        target[mask == 0] = np.nan
    dataset = ImageDataset(
        write(tmp_path / "in", inputs),
        write(tmp_path / "out", targets),
        mask_path_specifier=write(tmp_path / "mask", masks),
    )
    found = measure(dataset)
    np.testing.assert_allclose(found.target.mean, [kept.astype(np.float64).mean()], rtol=1e-12)
    np.testing.assert_allclose(found.target.std, [kept.astype(np.float64).std()], rtol=1e-9)
    assert found.target.count == kept.size


def test_labels_are_counted(tmp_path, arrays):
    labels = [np.random.default_rng(1).choice([3, 7, 9, 1], a.shape).astype(np.uint8)
              for a in arrays[1]]  # fmt: skip
    dataset = ImageDataset(
        write(tmp_path / "in", arrays[0]), write(tmp_path / "out", labels), labels=[7, 3, 1],
        ignore=9,
    )  # fmt: skip
    everything = np.concatenate([a.ravel() for a in labels])
    found = measure(dataset, 3)
    assert found.label_counts.tolist() == [(everything == value).sum() for value in (7, 3, 1)]
    assert count_labels(dataset.sample(0).target, 3).sum() == (labels[0] != 9).sum()


@pytest.mark.parametrize("kind", ["in", "out"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, arrays, kind, value):
    inputs, targets = arrays
    {"in": inputs, "out": targets}[kind][1][..., 0, 0] = value
    dataset = ImageDataset(write(tmp_path / "in", inputs), write(tmp_path / "out", targets))
    with pytest.raises(InputError) as error:
        measure(dataset)
    some = "2 of 42" if kind == "in" else "1 of 21"
    assert error.value.message.startswith(
        f"{tmp_path}/{kind}/image_001.tif: {some} values are NaN or infinite"
    )


def test_channels_must_agree(tmp_path, arrays):
    inputs, targets = arrays
    inputs[2] = inputs[2][:1]
    dataset = ImageDataset(write(tmp_path / "in", inputs), write(tmp_path / "out", targets))
    with pytest.raises(InputError) as error:
        measure(dataset)
    assert error.value.message == (
        f"{tmp_path}/in/image_002.tif has 1 channels, {tmp_path}/in/image_000.tif has 2; "
        "all input images need the same number, or set data.collapse_channels: true"
    )


def test_target_channels_must_agree(tmp_path, arrays):
    inputs, targets = arrays
    targets[1] = np.stack([targets[1]] * 2)
    dataset = ImageDataset(write(tmp_path / "in", inputs), write(tmp_path / "out", targets))
    with pytest.raises(InputError) as error:
        measure(dataset)
    assert error.value.message.startswith(
        f"{tmp_path}/out/image_001.tif has 2 channels, {tmp_path}/out/image_000.tif has 1; "
        "all target images"
    )


@pytest.mark.parametrize("size", [2, 3, 5])
def test_shares_add_up_to_the_whole(tmp_path, arrays, size):
    """Of five shares two are empty."""
    inputs, targets = arrays
    pairs = ImageDataset(write(tmp_path / "in", inputs), write(tmp_path / "out", targets))
    shares = [measure(pairs, indices=range(rank, 3, size)) for rank in range(size)]
    statistics = shares.pop()
    for share in shares:
        statistics.add(share)
    for found, images in ((statistics.input, inputs), (statistics.target, targets)):
        np.testing.assert_allclose(found.mean, flat(images).mean(axis=1), rtol=1e-13)
        np.testing.assert_allclose(found.std, flat(images).std(axis=1), rtol=1e-9)
        assert (found.minimum, found.maximum) == (flat(images).min(), flat(images).max())


def test_a_share_is_compared_with_the_first_image_though_it_lacks_it(tmp_path, arrays):
    inputs, targets = arrays
    inputs[1] = inputs[1][:1]
    pairs = ImageDataset(write(tmp_path / "in", inputs), write(tmp_path / "out", targets))
    with pytest.raises(InputError, match=r"image_001\.tif has 1 channels, .*image_000\.tif has 2;"):
        measure(pairs, indices=[1])


def test_a_volume_is_told_of_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr("msdtool.data.statistics.BLOCK_PIXELS", 12)
    volumes = np.random.default_rng(0).normal(size=(2, 4, 3, 4)).astype(np.float32)
    for number, volume in enumerate(volumes):
        np.save(tmp_path / f"{number}.npy", volume)
    told = []
    pairs = ImageDataset(tmp_path, tmp_path, ndim=3)
    assert measure(
        pairs, progress=lambda done, total: told.append(done)
    ).input.mean == pytest.approx(volumes.mean())
    assert told == [k / 4 for k in range(8)]
