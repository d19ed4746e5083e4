import torch
from torch import nn

from msdtool.nn import layers


def test_sequential_makes_layers_of_functions():
    model = layers.sequential(nn.Linear(3, 2), torch.relu)
    assert isinstance(model[1], layers.Lambda)
    assert (model(torch.randn(4, 3)) >= 0).all()


def test_shortcuts_see_the_first_input():
    block = layers.SequentialEx(layers.ConvLayer(4, 4), layers.ConvLayer(4, 4)).eval()
    block.append(layers.MergeLayer())
    x = torch.randn(2, 4, 8, 8)
    inner = block[1](block[0](x))
    torch.testing.assert_close(block(x), x + inner)
    block[2].dense = True
    torch.testing.assert_close(block(x), torch.cat([inner, x], 1))
    product = layers.SequentialEx(*block[:2], layers.ProdLayer())
    torch.testing.assert_close(product(x), x * inner)


def test_a_block_within_a_block_has_its_own_shortcut():
    inner = layers.SequentialEx(nn.ReLU(), layers.MergeLayer())
    outer = layers.SequentialEx(nn.Tanh(), inner, layers.MergeLayer())
    x = torch.randn(5)
    torch.testing.assert_close(outer(x), torch.relu(torch.tanh(x)) + torch.tanh(x) + x)


def test_layers_can_be_added():
    model = layers.SequentialEx(nn.ReLU())
    model.insert(0, nn.Tanh())
    model.extend([nn.Sigmoid(), nn.Identity()])
    kinds = [nn.Tanh, nn.ReLU, nn.Sigmoid, nn.Identity]
    assert [type(layer) for layer in model] == kinds
    assert len(model) == 4
    assert list(layers.SequentialEx(nn.Linear(1, 1)).state_dict()) == [
        "layers.0.weight",
        "layers.0.bias",
    ]


def test_graph_is_captured_whole():
    block = layers.SequentialEx(nn.Conv2d(2, 2, 1), layers.MergeLayer())
    x = torch.randn(1, 2, 3, 3)
    exported = torch.export.export(block, (x,)).module()
    torch.testing.assert_close(exported(x), block(x))


def test_cat_joins_the_outputs_along_an_axis():
    parts = [nn.Conv2d(2, 4, 1) for _ in range(3)]
    x = torch.rand(1, 2, 8, 8)
    expected = [part(x) for part in parts]
    torch.testing.assert_close(layers.Cat(parts)(x), torch.cat(expected, 1))
    torch.testing.assert_close(layers.Cat(parts, dim=2)(x), torch.cat(expected, 2))
