import pytest

from msdtool.architecture import Architecture, OuterLayers, Stream
from msdtool.nn.memory import activation_bytes, prediction_bytes, training_bytes

MIB = 2**20


@pytest.mark.parametrize("space", [(512, 512), (10, 20, 30)])
def test_memory_is_activations_and_gradients_and_a_bounded_workspace(space):
    architecture = Architecture(3, 1, depth=100, width=2, dilations=(1, 5), ndim=len(space))
    pixels = 512 * 512 if len(space) == 2 else 6000
    plane = 4 * pixels  # float32
    assert activation_bytes(architecture, space) == 203 * plane
    assert training_bytes(architecture, space, 5) == 2 * 5 * 203 * plane + 64 * MIB
    halos = 4 * pixels // space[-1] * 2 * 5
    assert prediction_bytes(architecture, space) == 203 * (plane + halos) + 64 * MIB


def test_layers_around_the_network_count_with_their_outputs():
    outer = OuterLayers(
        stem=[{"ConvLayer": {"ni": 1, "nf": 2}}],
        c_stem=2,
        features=3,
        head=[{"PixelShuffle_ICNR": {"ni": 3, "nf": 1, "scale": 2}}],
        scale=2,
    )
    architecture = Architecture(1, 1, depth=10, width=1, dilations=(1,), ndim=2, outer=outer)
    plane = 4 * 64 * 64
    stem = 3 * 2  # convolution, normalisation, activation
    head = 2 * 4 + 4  # convolution and activation, pixel shuffle
    assert activation_bytes(architecture, (64, 64)) == (12 + stem + head) * plane


def test_a_series_is_predicted_in_the_memory_of_a_few_frames():
    architecture = Architecture(1, 1, 9, 1, (1,), ndim=3, stream=Stream(axis=1, dt=4))
    for frames in (4, 1000):
        assert prediction_bytes(architecture, (20, frames, 30)) == 40 * 20 * 4 * 32 + 64 * MIB
    assert prediction_bytes(architecture, (20, 3, 30)) == 40 * 20 * 3 * 32 + 64 * MIB
