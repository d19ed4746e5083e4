"""Where kernels/ and configs/ are."""

import pytest

from msdtool import resources


@pytest.mark.parametrize("name", ["kernels", "configs"])
def test_a_checkout_has_them_beside_the_package(name):
    folder = resources.resource_folder(name)
    assert folder == resources.PACKAGE.parent / name
    assert any(folder.iterdir())


def test_a_wheel_has_them_inside(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "msdtool")
    inside = tmp_path / "msdtool" / "share" / "configs"
    inside.mkdir(parents=True)
    assert resources.resource_folder("configs") == inside
    assert resources.resource_folder("kernels") == tmp_path / "kernels"
