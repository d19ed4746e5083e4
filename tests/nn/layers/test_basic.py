import pickle
import sys

import pytest
import torch

from msdtool.nn import layers


def add_two(x):
    return x + 2


def add(a, b=2):
    return a + b


class OtherTensor(torch.Tensor):
    pass


def test_identity_passes_on():
    assert layers.Identity()(1) == 1


def test_lambda_survives_pickling():
    layer = pickle.loads(pickle.dumps(layers.Lambda(add_two)))
    x = torch.randn(3)
    torch.testing.assert_close(layer(x), x + 2)
    assert "add_two" in repr(layer)


def test_partial_lambda_fixes_arguments():
    layer = layers.PartialLambda(add, b=5)
    assert layer(1) == 6
    assert "b=5" in repr(layer)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.Flatten(), (10, 20)),
        (layers.Flatten(full=True), (200,)),
        (layers.View(10, 2, 10), (10, 2, 10)),
        (layers.View(-1, 4), (50, 4)),
        (layers.ResizeBatch(2, 10), (10, 2, 10)),
    ],
)
def test_shapes_change_also_where_memory_is_not_contiguous(layer, shape):
    x = torch.randn(10, 4, 5).transpose(1, 2)
    output = layer(x)
    assert output.shape == shape
    torch.testing.assert_close(output.flatten(), x.flatten())


def test_tensor_subclass_becomes_a_plain_tensor_or_the_one_asked_for():
    x = torch.ones(2).as_subclass(OtherTensor)
    assert type(layers.ToTensorBase()(x)) is torch.Tensor
    assert type(layers.ToTensorBase(OtherTensor)(torch.ones(2))) is OtherTensor


def test_debugger_stops_and_passes_on(monkeypatch):
    stops = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: stops.append(1))
    assert layers.Debugger()(3) == 3
    assert stops == [1]


def test_module_takes_fields_by_position_or_name_and_defaults():
    @layers.module("factor", offset=0)
    def Affine(self, x):  # noqa: N802
        """Scale and shift."""
        return x * self.factor + self.offset

    assert Affine(2)(3) == 6
    assert Affine(2, 1)(3) == Affine(factor=2, offset=1)(3) == 7
    assert repr(Affine(2)) == "Affine(factor=2, offset=0)"
    assert Affine.__doc__ == "Scale and shift."
    with pytest.raises(TypeError, match="factor"):
        Affine()
    with pytest.raises(TypeError, match="shift"):
        Affine(2, shift=1)
