"""The compiled engine in wheels of a platform: how it is put there, and which one is chosen."""

import importlib.util
import platform
import sys
from pathlib import Path

import pytest
import torch

from msdtool.ops.cpu import native_build, prebuilt
from msdtool.resources import resource_folder

HASWELL = "fpu sse4_2 movbe xsave avx f16c abm bmi1 avx2 bmi2 fma"
SKYLAKE_X = f"{HASWELL} avx512f avx512dq avx512cd avx512bw avx512vl"


@pytest.fixture(scope="module")
def hook():
    """The module of the build hook."""
    pytest.importorskip("hatchling")
    path = resource_folder("kernels") / "cpu" / "wheel.py"
    spec = importlib.util.spec_from_file_location("wheel_hook", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of some architecture with some features, and a wheel with these libraries."""

    def make(architecture, features, libraries):
        monkeypatch.setattr(platform, "machine", lambda: architecture)
        monkeypatch.setattr(prebuilt, "CPU_INFO", tmp_path / "cpuinfo")
        (tmp_path / "cpuinfo").write_text(f"model name\t: x\nflags\t\t: {features}\n\n" * 2)
        monkeypatch.setattr(prebuilt, "FOLDER", tmp_path / "prebuilt")
        (tmp_path / "prebuilt").mkdir()
        for name in libraries:
            (tmp_path / "prebuilt" / f"block-float-{name}.so").touch()
        found = prebuilt.library("float")
        return found and found.name.removeprefix("block-float-").removesuffix(".so")

    return make


@pytest.mark.parametrize(
    ("architecture", "features", "expected"),
    [
        ("x86_64", SKYLAKE_X, "x86-64-v4"),
        ("x86_64", HASWELL, "x86-64-v3"),
        ("x86_64", SKYLAKE_X.replace(" avx512vl", ""), "x86-64-v3"),
        ("x86_64", HASWELL.replace(" fma", ""), None),
        ("x86_64", "", None),
        ("aarch64", "", "armv8-a"),
        ("ppc64le", "", None),
    ],
)
def test_the_highest_level_of_the_processor_is_chosen(machine, architecture, features, expected):
    libraries = ("x86-64-v3", "x86-64-v4", "armv8-a")
    assert machine(architecture, features, libraries) == expected


def test_a_level_that_the_wheel_lacks_is_not_chosen(machine):
    assert machine("x86_64", SKYLAKE_X, ["x86-64-v3"]) == "x86-64-v3"


def test_where_the_system_does_not_tell_nothing_is_chosen(machine, tmp_path):
    machine("x86_64", SKYLAKE_X, ["x86-64-v3"])
    (tmp_path / "cpuinfo").unlink()
    assert prebuilt.library("float") is None


def test_a_prebuilt_library_needs_no_compiler_and_no_cache(monkeypatch, tmp_path):
    if not native_build.available(torch.float32):
        pytest.skip("needs a C++ compiler, to have a library")
    path = native_build._library(torch.float32)
    monkeypatch.setattr(native_build, "_libraries", {})
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("MSDTOOL_CACHE", str(tmp_path / "cache"))
    assert not native_build.available(torch.float32)
    monkeypatch.setattr(native_build, "_libraries", {})
    monkeypatch.setattr(prebuilt, "library", {"float": path}.get)
    assert native_build.load(torch.float32)._name == str(path)
    assert not (tmp_path / "cache").exists()


def test_levels_and_flags_are_those_of_the_engine(hook):
    assert {name: set(levels) for name, levels in hook.LEVELS.items()} == {
        name: set(levels) for name, levels in prebuilt.LEVELS.items()
    }
    assert set(hook.FLAGS) == set(native_build.FLAGS) - {"-march=native"}
    assert set(hook.REALS) == set(native_build.REALS.values())


@pytest.fixture
def build(hook, monkeypatch, tmp_path):
    """What the hook tells hatchling, and how it called the compiler."""
    calls = tmp_path / "calls"
    compiler = tmp_path / "compiler"
    compiler.write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"open({str(calls)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        "open(sys.argv[-1], 'w').close()\n"
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))

    def run(version="standard"):
        data = {"force_include": {}, "pure_python": True, "tag": None}
        plugin = hook.PlatformWheel(str(tmp_path), {}, None, None, str(tmp_path), "wheel")
        plugin.initialize(version, data)
        there = [Path(path).exists() for path in data["force_include"]]
        plugin.finalize(version, data, "")
        assert not any(Path(path).exists() for path in data["force_include"])
        return data, there, calls.read_text().splitlines() if calls.exists() else []

    return run


@pytest.mark.skipif(sys.platform == "win32", reason="needs a script that can be run")
def test_a_wheel_of_a_platform_carries_each_level(build, hook, monkeypatch):
    monkeypatch.setenv("MSDTOOL_PREBUILT", "1")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    data, there, calls = build()
    names = {
        f"msdtool/share/prebuilt/block-{real}-{level}.so"
        for real in ("float", "double")
        for level in ("x86-64-v3", "x86-64-v4")
    }
    assert set(data["force_include"].values()) == names and there == [True] * 4
    assert data["pure_python"] is False and data["tag"].startswith("py3-none-")
    assert [("-march=x86-64-v4" in call, "-DREAL=double" in call) for call in calls] == [
        (False, False), (False, True), (True, False), (True, True),
    ]  # fmt: skip


@pytest.mark.parametrize(("version", "wanted"), [("standard", "0"), ("editable", "1")])
def test_other_wheels_are_pure(build, monkeypatch, version, wanted):
    monkeypatch.setenv("MSDTOOL_PREBUILT", wanted)
    data, _, calls = build(version)
    assert (data["pure_python"], data["tag"], data["force_include"], calls) == (True, None, {}, [])
