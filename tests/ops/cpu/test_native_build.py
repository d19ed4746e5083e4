"""The compiled engine's library: building, keeping and missing it; threads, forks, sanitizers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from msdtool import ops
from msdtool.errors import KernelError
from msdtool.ops.cpu import native_build
from msdtool.resources import resource_folder
from tests.ops.formula import block_formula, make_problem

COMPILER = next((name for name in native_build.COMPILERS if shutil.which(name)), None)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


COMPILE_ONCE = """\
case "$*" in *-shared*) ;; *) exec {compiler} "$@";; esac
echo "$@" >> {folder}/calls
for output; do :; done
kept={folder}/$(echo "$@" | sed 's/ [^ ]*$//' | md5sum | cut -c1-32)
[ -e "$kept" ] || {{ {compiler} "$@" && cp "$output" "$kept"; }} && cp "$kept" "$output"
"""


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiler that keeps what it has compiled, and notes in ``calls`` what it was asked."""
    folder = tmp_path_factory.mktemp("compiler")
    write_compiler(folder / "compiler", COMPILE_ONCE.format(compiler=COMPILER, folder=folder))
    return folder / "compiler"


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: Path) -> Iterator[Path]:
    """An empty cache folder, and a process that has not loaded anything."""
    monkeypatch.setenv("MSDTOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(native_build, "FLAGS", ("-O0", *native_build.FLAGS[1:]))
    if COMPILER is not None:
        monkeypatch.setenv("CXX", str(compiler))
    (compiler.parent / "calls").unlink(missing_ok=True)
    native_build._libraries.clear()
    yield tmp_path / "cache"
    native_build._libraries.clear()


def write_compiler(path: Path, script: str) -> str:
    """An executable that stands in for a compiler."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


def calls(compiler: Path) -> list[str]:
    """What the compiler was asked to compile since the cache folder was empty."""
    return (compiler.parent / "calls").read_text().splitlines()


def run(impl: str) -> torch.Tensor:
    return ops.msd_block(*make_problem((9, 8)).block_arguments(), impl=impl)


def assert_without_it(message: str) -> None:
    """`compiled` says why it is not available; `auto` falls back."""
    with pytest.raises(KernelError, match=message):
        run("compiled")
    assert torch.equal(run("auto"), run("torch"))


@needs_compiler
def test_is_compiled_once_and_kept(fresh: Path, compiler: Path) -> None:
    first = run("compiled")
    native_build._libraries.clear()
    assert torch.equal(run("compiled"), first)
    assert len(calls(compiler)) == 1
    assert len(list(fresh.iterdir())) == 1
    assert fresh.stat().st_mode & 0o777 == 0o700


@needs_compiler
@pytest.mark.usefixtures("fresh")
def test_threads_that_ask_at_once_compile_once(compiler: Path) -> None:
    with ThreadPoolExecutor(3) as executor:
        assert all(executor.map(native_build.available, [torch.float64] * 3))
    assert len(calls(compiler)) == 1


INTEL = "processor\t: {}\nmodel name\t: Xeon\nflags\t\t: fpu avx2{}\ncpu MHz\t\t: {}\n"
ARM = "processor\t: {}\nFeatures\t: fp asimd{}\nCPU part\t: 0xd0c\nBogoMIPS\t: {}\n"


@pytest.mark.parametrize(("text", "more"), [(INTEL, " avx512f"), (ARM, " sve")])
def test_another_processor_is_another_machine(
    text: str, more: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes of a cluster share a home: what one compiles for itself may stop another."""
    monkeypatch.setattr(native_build, "CPU_INFO", tmp_path / "cpuinfo")

    def machine(*cores: str) -> str:
        native_build.CPU_INFO.write_text("\n".join(cores))
        return native_build._machine()

    one = machine(text.format(0, "", 2400), text.format(1, "", 2400))
    assert machine(text.format(0, "", 1700), text.format(1, "", 3100)) == one
    assert machine(text.format(0, more, 2400), text.format(1, more, 2400)) != one


@needs_compiler
def test_other_flags_make_another_library(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("compiled")
    monkeypatch.setattr(native_build, "FLAGS", (*native_build.FLAGS, "-DOTHER"))
    native_build._libraries.clear()
    run("compiled")
    assert len(list(fresh.iterdir())) == 2


@pytest.mark.usefixtures("fresh")
def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(native_build.shutil, "which", lambda name: None)
    assert_without_it(
        r"needs a C\+\+ compiler; none of c\+\+, g\+\+, clang\+\+ is installed. Install"
    )


def test_failing_compiler_leaves_its_log_and_no_file(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = '[ "$1" = --version ] && exit 0\necho "no such instruction" >&2\nexit 4'
    monkeypatch.setenv("CXX", write_compiler(tmp_path / "compiler", script))
    assert_without_it(r"msd_block.cpp .* failed with exit code 4:\nno such instruction")
    assert list(fresh.iterdir()) == []


@pytest.mark.usefixtures("fresh")
def test_quotes_that_do_not_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", 'g++ -D"x')
    assert_without_it("cannot be built: No closing quotation.*name one in CXX")


@pytest.mark.usefixtures("fresh")
def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("MSDTOOL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(native_build.Path, "home", no_home)
    assert_without_it("cannot be built: Could not determine home.*MSDTOOL_CACHE")


@pytest.mark.usefixtures("fresh")
def test_compiler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    assert_without_it("cannot be built: .*No such file.*/no/such/compiler.*Install a C")


@needs_compiler
@pytest.mark.usefixtures("fresh")
def test_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MSDTOOL_CACHE", str(tmp_path / "file"))
    assert_without_it("cannot be kept in .*file.*MSDTOOL_CACHE")


@needs_compiler
def test_folder_that_others_may_write_to_is_not_trusted(fresh: Path) -> None:
    fresh.mkdir()
    fresh.chmod(0o777)
    assert_without_it("others may write to it.*Set MSDTOOL_CACHE to a folder of your own")


@needs_compiler
def test_only_roots_folder_is_trusted_besides_ones_own(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("compiled")
    owner = fresh.stat().st_uid
    native_build._libraries.clear()
    monkeypatch.setattr(native_build.os, "getuid", lambda: owner + 4711)
    if owner == 0:
        assert native_build.available(torch.float64)
    else:
        assert_without_it("belongs to another user")


def damage(library: Path, kind: str) -> None:
    """Do to a library what a full disk, another user or a careless umask may have done."""
    if kind == "cut off":
        library.write_bytes(library.read_bytes()[:5000])
    elif kind == "other bytes":
        library.write_bytes(library.read_bytes()[:-1] + b"x")
    elif kind == "a link":
        library.rename(library.with_name("elsewhere"))
        library.symlink_to(library.with_name("elsewhere"))
    elif kind == "writable by others":
        library.chmod(0o722)
    else:
        os.chown(library, 4711, 4711)


@needs_compiler
@pytest.mark.parametrize(
    "kind", ["cut off", "other bytes", "a link", "writable by others", "another owner"]
)
def test_a_library_that_is_damaged_or_foreign_is_built_again(fresh: Path, kind: str) -> None:
    if kind == "another owner" and os.getuid() != 0:
        pytest.skip("only root gives files away")
    first = run("compiled")
    (library,) = fresh.iterdir()
    content = library.read_bytes()
    native_build._libraries.clear()
    # A library that is loaded must not change: the damaged one is another file.
    copy = library.with_name("copy")
    copy.write_bytes(content)
    copy.replace(library)
    damage(library, kind)
    assert torch.equal(run("compiled"), first)
    (again,) = (path for path in fresh.iterdir() if path.name != "elsewhere")
    assert native_build._is_trusted(again)
    assert again.stem.endswith(native_build._digest(again))


@needs_compiler
def test_what_a_killed_compiler_left_is_removed(fresh: Path) -> None:
    run("compiled")
    (library,) = fresh.iterdir()
    stem = library.with_name(library.stem.rpartition("-")[0])
    old, recent, last = map(native_build.temporary_name, (stem, stem, fresh / "block-float-0"))
    another = fresh / ".notes.part"
    for path in (old, recent, last, another):
        path.touch()
    for path in (old, last, another):
        os.utime(path, (0, 0))
    native_build._libraries.clear()
    run("compiled")  # which builds nothing
    assert set(fresh.iterdir()) == {library, recent, another}


def test_damaged_library_is_an_error_not_a_crash(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = '[ "$1" = --version ] && exit 0\nwhile [ $# -gt 1 ]; do shift; done\necho x > "$1"'
    monkeypatch.setenv("CXX", write_compiler(tmp_path / "compiler", script))
    assert_without_it("cannot be built: .*block-double.*MSDTOOL_CACHE")
    assert len(list(fresh.iterdir())) == 1


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MSDTOOL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert native_build.cache_folder() == Path("/somewhere/msdtool")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert native_build.cache_folder() == Path.home() / ".cache/msdtool"


@needs_compiler
def test_python_threads_work_side_by_side() -> None:
    problems = [make_problem((40, 50), seed=seed) for seed in range(8)]

    def gradient(index: int) -> torch.Tensor:
        problem = problems[index]
        output = ops.msd_block(*problem.block_arguments(), impl="compiled")
        return torch.autograd.grad(output.square().sum(), problem.input)[0]

    with ThreadPoolExecutor(4) as executor:
        together = list(executor.map(gradient, range(8)))
    for index, found in enumerate(together):
        assert torch.equal(found, gradient(index))


FORK = """
import os, torch
from msdtool import ops
torch.set_num_threads(2)
weights = [torch.ones(1, 1 + layer, 3, 3) / 20 for layer in range(4)]
def run():
    return ops.msd_block(torch.ones(1, 1, 64, 64), weights, torch.zeros(4), [1], impl="compiled")
expected = run()
pid = os.fork()
if pid == 0:
    os._exit(0 if torch.equal(run(), expected) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@needs_compiler
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_can_use_it() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    assert subprocess.run(command, check=False, timeout=600).returncode == 0


@needs_compiler
@pytest.mark.parametrize(  # at the levels that take least time
    ("sanitizers", "level"), [("address,undefined", "-O0"), ("thread", "-O1")]
)
def test_sanitizers_find_nothing(sanitizers: str, level: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    flags = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", level, "-g1", "-march=native"]
    source = Path(__file__).with_name("sanitized_main.cpp")
    include = f"-I{resource_folder('kernels') / 'cpu'}"
    build = [
        str(COMPILER), "-std=c++17", "-pthread", "-DREAL=float", *flags,
        include, str(source), "-o", str(program),
    ]  # fmt: skip
    empty = [str(COMPILER), f"-fsanitize={sanitizers}", "-x", "c++", "-", "-o", str(program)]
    probe = subprocess.run(
        empty, input="int main() {}", capture_output=True, text=True, check=False
    )
    if probe.returncode != 0:
        pytest.skip(f"{COMPILER} has no sanitizers {sanitizers}: {probe.stderr.strip()}")
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    result = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "0 failures\n"


def test_another_device_is_refused() -> None:
    problem = make_problem((9, 8))
    elsewhere = [tensor.to("meta") for tensor in (problem.input, *problem.weights, problem.bias)]
    with pytest.raises(ValueError, match='impl "compiled" computes on the CPU; the input is on me'):
        ops.msd_block(elsewhere[0], elsewhere[1:-1], elsewhere[-1], [1], impl="compiled")


@needs_compiler
def test_what_is_not_a_number_is_passed_on() -> None:
    problem = make_problem((9, 8), dilations=(1,))
    with torch.no_grad():
        problem.input[0, 0, 4, 4] = torch.nan
        expected = block_formula(problem)
        found = ops.msd_block(*problem.block_arguments(), impl="compiled")
    assert torch.equal(found.isnan(), expected.isnan())
