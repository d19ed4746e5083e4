"""What doctor finds on machines of all kinds."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from msdtool.doctor import ABSENT, BROKEN, WORKS, kernels
from msdtool.doctor import report as doctor
from msdtool.doctor.kernels import Check
from msdtool.errors import KernelError
from msdtool.ops.cpu import native_build
from msdtool.ops.cuda import installation, launcher

GPU = torch.device("cuda", 0)
NO_CUPY = "CuPy is not installed: pip install 'msdtool[cuda13]'"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with NVIDIA's driver."""
    file = tmp_path / "version"
    file.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27\nGCC\n")
    monkeypatch.setattr(doctor, "DRIVER", file)


@pytest.fixture
def no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DRIVER", tmp_path / "none")


def test_a_machine_without_a_gpu_is_whole(no_driver, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(kernels, "SPACES", ((11, 13),))
    findings = {finding.name: finding for finding in doctor.examine()}
    assert not [finding for finding in findings.values() if finding.state == BROKEN]
    assert findings["driver"].state == ABSENT
    assert findings["self-test on cpu"].found == "22 checks passed"


def test_a_torch_without_cuda_beside_a_driver_is_broken(driver, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    finding = doctor.find_torch()
    assert finding.state == BROKEN
    assert finding.found.endswith("(no CUDA), but there is an NVIDIA driver")
    assert "install a CUDA build of torch" in finding.advice
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert (doctor.find_torch().state, doctor.find_torch().advice) == (WORKS, "")


def test_a_driver_that_torch_cannot_use_is_broken(driver, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    finding = doctor.find_driver()
    assert (finding.state, finding.found) == (BROKEN, "580.65.06, but torch finds no GPU")
    assert finding.advice.endswith("CUDA_VISIBLE_DEVICES is '7'")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert doctor.find_driver().found == "580.65.06, 2 GPUs"


def test_cupy_is_missed_where_there_is_a_gpu(monkeypatch):
    monkeypatch.setattr(installation, "cupy_problem", lambda: NO_CUPY)
    (finding,) = doctor.find_cupy(True)
    assert (finding.name, finding.state, finding.found) == ("CuPy", BROKEN, NO_CUPY)


def test_a_missing_compiler_of_cuda_is_named(monkeypatch):
    monkeypatch.setattr(installation, "cupy_problem", lambda: None)
    monkeypatch.setattr(
        installation, "nvrtc_problem", lambda: "NVRTC, CUDA's compiler, is missing (x)"
    )
    (finding,) = doctor.find_cupy(True)
    assert (finding.name, finding.state) == ("NVRTC", BROKEN)


def test_versions_and_cache_are_told(tmp_path, monkeypatch):
    for name in ("cupy_problem", "nvrtc_problem"):
        monkeypatch.setattr(installation, name, lambda: None)
    cache = tmp_path / "deep" / "cache"
    monkeypatch.setattr(
        installation, "versions", lambda: {"CuPy": "14.2.0", "NVRTC": "13.5", "cache": str(cache)}
    )
    findings = list(doctor.find_cupy(True))
    assert [(finding.name, finding.found) for finding in findings] == [
        ("CuPy", "14.2.0"), ("NVRTC", "13.5"), ("kernel cache", str(cache)),
    ]  # fmt: skip
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_broken(tmp_path):
    file = tmp_path / "file"
    file.touch()
    finding = doctor.find_cache(file / "cache")
    assert (finding.state, finding.found) == (BROKEN, f"{file / 'cache'}: Not a directory")
    assert finding.advice.startswith("set CUPY_CACHE_DIR to a writable folder")


@pytest.mark.parametrize(("compiler", "state"), [(None, ABSENT), ("/usr/bin/c++", BROKEN)])
def test_the_compiled_engine_is_optional_but_should_build(compiler, state, monkeypatch):
    def load(dtype: torch.dtype) -> None:
        raise KernelError("it cannot be built")

    monkeypatch.setattr(native_build, "load", load)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: compiler)
    monkeypatch.delenv("CXX", raising=False)
    finding = doctor.find_compiled_engine()
    assert (finding.state, finding.found) == (state, "it cannot be built")


@pytest.mark.parametrize(("capability", "state"), [((7, 0), BROKEN), ((7, 5), WORKS)])
def test_a_gpu_older_than_the_compiler_knows(capability, state, monkeypatch):
    properties = SimpleNamespace(
        name="NVIDIA Test", major=capability[0], minor=capability[1], total_memory=16 * 2**30
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    finding = doctor.find_gpu(GPU)
    assert finding.state == state
    version = ".".join(map(str, capability))
    assert finding.found == f"NVIDIA Test, 16 GB, compute capability {version}"


def test_a_wrong_kernel_is_named(monkeypatch):
    checks = [Check("network, cuda", 1e-7, 2e-5), Check("network, cuda-plain", 0.5, 2e-5)]
    monkeypatch.setattr(kernels, "check_all", lambda device: iter(checks))
    finding = doctor.self_test(GPU)
    assert finding.state == BROKEN
    assert finding.found == "network, cuda-plain: relative error 0.5, allowed 2e-05"


def test_no_number_does_not_pass():
    assert not Check("", float("nan"), 1.0).passed


def test_a_kernel_that_cannot_be_compiled_shows_its_log(monkeypatch):
    def check_all(device: torch.device) -> None:
        raise KernelError("the CUDA compiler refused taps.cu")

    monkeypatch.setattr(kernels, "check_all", check_all)
    finding = doctor.self_test(GPU)
    assert (finding.state, finding.found) == (BROKEN, "the CUDA compiler refused taps.cu")


def test_a_gpu_without_kernels_is_broken_although_all_is_right(monkeypatch):
    monkeypatch.setattr(kernels, "check_all", lambda device: iter([Check("", 0.0, 1.0)]))
    monkeypatch.setattr(launcher, "obstacle", lambda device: NO_CUPY)
    finding = doctor.self_test(GPU)
    assert finding.state == BROKEN
    assert finding.found == f"1 checks passed, but CUDA kernels cannot run: {NO_CUPY}"
    assert doctor.self_test(torch.device("cpu")).state == WORKS


def test_cupy_is_not_proposed_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(installation, "cupy_problem", lambda: NO_CUPY)
    (finding,) = doctor.find_cupy(False)
    assert (finding.state, finding.found) == (ABSENT, "not needed without a GPU")


@pytest.mark.parametrize(
    ("error", "state", "found"),
    [
        (
            ModuleNotFoundError("No module named 'zarr'", name="zarr"),
            ABSENT,
            "the package zarr, which is not installed; install it with: pip install "
            "'msdtool[volumes]'",
        ),
        (
            ImportError("numpy is too old"),
            BROKEN,
            "the package zarr, which is installed but broken (ImportError: numpy is too old); "
            "remove it with: pip uninstall zarr; then pip install 'msdtool[volumes]'",
        ),
        (
            ModuleNotFoundError("No module named 'numcodecs'", name="numcodecs"),
            BROKEN,
            "the package zarr, which is installed but broken (ModuleNotFoundError: No module named "
            "'numcodecs'); remove it with: pip uninstall zarr; then pip install 'msdtool[volumes]'",
        ),
    ],
)
def test_a_broken_extra_is_not_called_absent(error, state, found, monkeypatch):
    def fail(_name):
        raise error

    monkeypatch.setattr(doctor, "import_module", fail)
    finding = doctor.find_extra("zarr")
    assert (finding.name, finding.state, finding.found) == ("extra volumes", state, found)


def test_processors_and_memory_are_told():
    assert doctor.find_processors().found.startswith(f"{len(os.sched_getaffinity(0))}, of which ")
    assert doctor.find_memory().found.endswith(" GiB available")
