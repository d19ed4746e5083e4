import platform
from importlib.metadata import version

from msdtool.runs import versions as module
from msdtool.runs.versions import versions


def test_versions_are_those_installed(monkeypatch):
    monkeypatch.setattr(module, "PACKAGES", ("torch", "no-such-package"))
    assert versions() == {
        "python": platform.python_version(),
        "torch": version("torch"),
        "no-such-package": "not installed",
    }
