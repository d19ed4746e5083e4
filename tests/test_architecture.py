"""An architecture as plain data and back."""

from dataclasses import replace

import pytest

from msdtool.architecture import Architecture, HiddenLayers, OuterLayers, Stream

PLAIN = {
    "c_in": 1,
    "c_out": 2,
    "depth": 3,
    "width": 4,
    "dilations": [1, 2],
    "ndim": 3,
    "padding": "zeros",
}
OUTER = {"stem": [{"ConvLayer": {"nf": 2}}], "c_stem": 2, "features": 3, "head": [], "scale": 2}
HIDDEN = {"operation": "conv", "activation": "ReLU", "norm": None}
STREAM = {"stream": {"axis": 1, "dt": 4}}

PLAIN_ARCHITECTURE = Architecture(1, 2, 3, 4, (1, 2), ndim=3, padding="zeros")


@pytest.mark.parametrize(
    ("content", "changes"),
    [
        (PLAIN, {}),
        (PLAIN | STREAM, {"stream": Stream(1, 4)}),
        (PLAIN | OUTER, {"outer": OuterLayers([{"ConvLayer": {"nf": 2}}], 2, 3, [], 2)}),
        (PLAIN | HIDDEN, {"hidden": HiddenLayers("conv", "ReLU", None)}),
    ],
)
def test_plain_data_become_an_architecture_and_the_same_data_again(content, changes):
    found = Architecture.from_dict(content)
    assert found == replace(PLAIN_ARCHITECTURE, **changes)
    assert list(found.to_dict().items()) == list(content.items())


def test_all_parts_keep_their_order():
    content = PLAIN | STREAM | OUTER | HIDDEN
    assert list(Architecture.from_dict(content).to_dict()) == list(content)


def test_a_network_without_outer_layers_keeps_the_size():
    assert PLAIN_ARCHITECTURE.scale == 1
    assert Architecture.from_dict(PLAIN | OUTER).scale == 2


def test_frames_of_series_are_images():
    assert Stream(axis=1, dt=4).frames_shape((2, 3, 10, 11, 12)) == (22, 3, 10, 12)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"^here is \[\]; expected keys and values$"),
        (PLAIN | {"depth": "3"}, "^here.depth is '3'; expected an integer$"),
        (PLAIN | {"c_in": 0}, "^here.c_in is 0; expected 1 or more$"),
        (PLAIN | {"dilations": [1, 0]}, r"^here.dilations is \[1, 0\]; expected 1 or more each$"),
        (PLAIN | {"ndim": 4}, "^here.ndim is 4; expected 2 or 3$"),
        (PLAIN | {"stream": {"axis": 3, "dt": 1}}, "^here.stream.axis is 3; expected 0, 1 or 2$"),
        (PLAIN | {"stream": {"axis": 0}}, "^here.stream.dt is missing$"),
        (PLAIN | {"head": []}, "^here.stem, here.c_stem, here.features, here.scale are missing$"),
        (PLAIN | {"norm": None}, "^here.operation, here.activation are missing$"),
        (PLAIN | {"outer": None}, "^here.outer is unknown; update msdtool$"),
    ],
)
def test_a_key_that_cannot_be_is_named(content, message):
    with pytest.raises(ValueError, match=message):
        Architecture.from_dict(content, "here")
