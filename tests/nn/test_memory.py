import pytest

from msdtool.nn.memory import activation_bytes, prediction_bytes, training_bytes

MIB = 2**20


@pytest.mark.parametrize("space", [(512, 512), (10, 20, 30)])
def test_memory_is_activations_and_gradients_and_a_bounded_workspace(space):
    description = {"c_in": 3, "depth": 100, "width": 2, "dilations": [1, 5]}
    pixels = 512 * 512 if len(space) == 2 else 6000
    plane = 4 * pixels  # float32
    assert activation_bytes(description, space) == 203 * plane
    assert training_bytes(description, space, 5) == 2 * 5 * 203 * plane + 64 * MIB
    halos = 4 * pixels // space[-1] * 2 * 5
    assert prediction_bytes(description, space) == 203 * (plane + halos) + 64 * MIB
