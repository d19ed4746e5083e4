import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from msdtool.nn import layers


def test_self_attention_starts_as_the_identity_and_then_follows_its_formula():
    layer = layers.SelfAttention(16)
    x = torch.randn(3, 16, 8, 8)
    torch.testing.assert_close(layer(x), x)
    torch.nn.init.ones_(layer.gamma)
    layer.eval()
    q, k, v = (part[0].weight for part in (layer.query, layer.key, layer.value))
    assert [tuple(w.shape) for w in (q, k, v)] == [(2, 16, 1), (2, 16, 1), (16, 16, 1)]
    f, g, h = (x.flatten(2).transpose(1, 2) @ w.squeeze().t() for w in (q, k, v))
    beta = F.softmax(f @ g.transpose(1, 2), dim=1)
    out = (h.transpose(1, 2) @ beta).reshape(x.shape)
    torch.testing.assert_close(layer(x), x + out, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(
    channels=st.integers(1, 9),
    space=st.lists(st.integers(1, 5), min_size=2, max_size=2),
    batch=st.integers(1, 2),
)
def test_pooled_attention_takes_any_size_and_number_of_channels(channels, space, batch):
    layer = layers.PooledSelfAttention2d(channels).double().eval()
    torch.nn.init.ones_(layer.gamma)
    x = torch.randn(batch, channels, *space, dtype=torch.float64)
    query = layer.query(x).flatten(2)
    key, value = (
        F.max_pool2d(part(x), 2, ceil_mode=True).flatten(2) for part in (layer.key, layer.value)
    )
    beta = F.softmax(query.transpose(1, 2) @ key, dim=-1)
    mean = (value @ beta.transpose(1, 2)).reshape(batch, -1, *space)
    torch.testing.assert_close(layer(x), layer.out(mean) + x)


@pytest.mark.parametrize("space", [(7,), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize("kind", [layers.SelfAttention, layers.SimpleSelfAttention])
def test_attention_works_on_any_number_of_axes(kind, space):
    layer = kind(3)
    torch.nn.init.ones_(layer.gamma)
    x = torch.randn(2, 3, *space)
    assert layer(x).shape == x.shape
    assert not torch.equal(layer(x), x)


@pytest.mark.parametrize("ks", [1, 3])
def test_symmetric_attention_keeps_its_kernel_symmetric(ks):
    layer = layers.SimpleSelfAttention(4, ks=ks, sym=True)
    torch.nn.init.ones_(layer.gamma)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    layer(torch.randn(2, 4, 3, 3)).square().mean().backward()
    optimizer.step()
    weight = layer.eval().conv.weight
    torch.testing.assert_close(weight, weight.transpose(0, 1))
    loose = layers.SimpleSelfAttention(4, ks=ks).eval().conv.weight
    assert not torch.allclose(loose, loose.transpose(0, 1))


def test_even_kernel_is_refused():
    with pytest.raises(ValueError, match="ks is 2"):
        layers.SimpleSelfAttention(4, ks=2)


def test_simple_attention_follows_its_formula():
    layer = layers.SimpleSelfAttention(4).eval()
    torch.nn.init.constant_(layer.gamma, 0.5)
    x = torch.randn(2, 4, 3, 5)
    flat = x.flatten(2)
    expected = 0.5 * (flat @ flat.transpose(1, 2)) @ layer.conv(flat) + flat
    torch.testing.assert_close(layer(x), expected.reshape(x.shape))


@pytest.mark.parametrize(
    ("layer", "size", "found"),
    [
        (layers.SelfAttention(8), 512, "256.0 GiB"),
        (layers.PooledSelfAttention2d(8), 512, "64.0 GiB"),
        (layers.SelfAttention(8), 182, "4.1 GiB"),
    ],
)
def test_scores_that_need_too_much_memory_are_refused_before_they_take_it(layer, size, found):
    x = torch.zeros(1, 8, size, size, device="meta")
    message = rf"{size} x {size} pixels.*{found}; allowed: 4 GiB.*SimpleSelfAttention"
    with pytest.raises(ValueError, match=message):
        layer(x)


def test_scores_up_to_the_limit_are_computed():
    layer = layers.SelfAttention(8).to("meta")
    x = torch.zeros(1, 8, 181, 181, device="meta")
    assert layer(x).shape == x.shape
