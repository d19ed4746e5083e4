import json

import pytest
import torch

from msdtool.bench import correctness, suite
from msdtool.ops.cpu import native_build
from msdtool.ops.cuda import launcher


def lines_of(out):
    """The results of each kind, in order."""
    found = {}
    for line in out.splitlines():
        ((kind, value),) = json.loads(line).items()
        found.setdefault(kind, []).append(value)
    return found


TINY = ("bench", "--size", "16", "--depth", "2", "--seconds", "0")


@pytest.fixture
def quick(monkeypatch):
    """Leave out what takes long: other processes, large products, most comparisons."""
    monkeypatch.setattr(suite, "peak_growth", lambda case, module, device: (2**20, 2**21))
    monkeypatch.setattr(suite, "sgemm_peak", lambda device: 1e11)
    monkeypatch.setattr(correctness, "SMALL", correctness.SMALL[-1:])
    monkeypatch.setattr(correctness, "LARGE", ())


@pytest.mark.usefixtures("quick")
def test_json_has_a_line_for_each_result(cli):
    code, out, _ = cli(*TINY, "--depth", "3", "--json")
    assert code == 0
    found = lines_of(out)
    assert list(found) == ["machine", "correctness", "row"]
    ((machine,), (correctness,), rows) = found.values()
    assert machine["gpu"] == "not measured"
    assert {"cpu", "threads", "versions", "date"} <= set(machine)
    assert set(correctness) == {"float32", "float64"}
    assert [(row["depth"], row["method"]) for row in rows] == [
        (depth, method)
        for depth in (2, 3)
        for method in ("msdtool", "torch.cat + conv", "in-place conv")
    ]
    first = rows[0]
    assert first["sgemm_gflops"] == 100.0
    # Two layers of 9 taps read 1 and 2 channels, the final layer 3; all twice, on 256 pixels.
    assert first["forward_flops"] == 256 * (2 * 9 * 3 + 2 * 3)
    assert first["step_bytes"] == 2**21
    assert first["runs"] >= 3
    assert first["step_share"] == pytest.approx(first["step_gflops"] / 100)


@pytest.mark.usefixtures("quick")
def test_the_table_has_a_line_for_each_method(cli):
    code, out, err = cli(*TINY)
    assert code == 0
    lines = out.splitlines()
    header = next(index for index, line in enumerate(lines) if "step/sgemm" in line)
    assert [
        line.split("(")[0].split("  ")[-1].strip() for line in lines[header + 1 : header + 4]
    ] == ["msdtool", "torch.cat + conv", "in-place conv"]
    assert "symmetric" in lines[header + 1]
    assert "reflect" in lines[header + 2]
    assert "sgemm peak 100 GFLOP/s" in out
    assert f"torch {torch.__version__.split('+')[0]}" in out
    assert "largest relative error" in out
    assert "largest relative error" in err


@pytest.mark.usefixtures("quick")
def test_a_reason_stands_where_a_figure_is_missing(cli):
    _, out, _ = cli(*TINY, "--limit", "0")
    line = next(line for line in out.splitlines() if "torch.cat" in line)
    assert "not run: a step would take about" in line
    assert line.split("(reflect)")[1].split()[:9] == ["-"] * 9


@pytest.mark.usefixtures("quick")
def test_quiet_leaves_stderr_empty_and_alone_leaves_rivals_out(cli):
    code, out, err = cli(*TINY, "--quiet", "--alone")
    assert (code, err) == (0, "")
    assert "torch.cat" not in out


@pytest.mark.usefixtures("quick")
def test_options_reach_the_measurement(cli):
    _, out, _ = cli(*TINY, "--ndim", "3", "--width", "2", "--padding", "zeros", "--alone", "--json")
    row = lines_of(out)["row"][0]
    assert (row["space"], row["width"], row["padding"]) == ([16, 16, 16], 2, "zeros")


@pytest.mark.usefixtures("quick")
def test_results_are_printed_before_what_follows_fails(cli, monkeypatch):
    measured = suite._measured_row

    def fails_later(method, case, *arguments):
        if case.depth == 3:
            raise KeyboardInterrupt
        return measured(method, case, *arguments)

    monkeypatch.setattr(suite, "_measured_row", fails_later)
    code, out, _ = cli(*TINY, "--depth", "3", "--alone", "--json")
    assert code != 0
    assert [row["depth"] for row in lines_of(out)["row"]] == [2]


@pytest.mark.usefixtures("quick")
def test_kernels_that_fail_cost_only_themselves(cli, monkeypatch):
    from msdtool.bench import breakdown
    from msdtool.cli import bench

    def two(*_):
        yield breakdown.KernelRow("taps_gather", 1e-5, 1.0, 1.0, 0.5)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(breakdown, "measure_kernels", two)
    monkeypatch.setattr(launcher, "obstacle", lambda device: None)
    facts = {"sgemm_gflops": 1.0, "copy_gb_per_second": 1.0}
    kept = []
    found = bench._measure_kernels(
        None, torch.device("cuda", 0), facts, lambda *pair: kept.append(pair)
    )
    assert [row.name for row in found] == ["taps_gather"]
    assert [(kind, value["name"]) for kind, value in kept] == [("kernel", "taps_gather")]


@pytest.mark.usefixtures("quick")
def test_a_figure_is_drawn(cli, tmp_path):
    code, _, _ = cli(*TINY, "--depth", "3", "--alone", "--figure", str(tmp_path / "costs.png"))
    assert code == 0
    assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("quick")
def test_nothing_is_timed_if_the_engine_is_wrong(cli, monkeypatch):
    right = correctness.ops.msd_module

    def wrong(*arguments, impl="auto"):
        return right(*arguments, impl=impl) * (1 if impl == "reference" else 1.01)

    def refuse(*_):
        raise AssertionError("timed")

    monkeypatch.setattr(correctness.ops, "msd_module", wrong)
    monkeypatch.setattr(suite, "sgemm_peak", refuse)
    code, out, err = cli(*TINY)
    assert (code, out) == (1, "")
    assert "the engine is wrong" in err
    assert "0.01" in err


def test_a_gpu_that_is_not_there_is_a_usage_error(cli, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, out, err = cli(*TINY, "--device", "cuda")
    assert (code, out) == (2, "")
    assert "no GPU" in err


@pytest.mark.parametrize(
    "option", [("--size", "8"), ("--ndim", "4"), ("--padding", "circular"), ("--device", "tpu")]
)
def test_options_out_of_range_are_usage_errors(cli, option):
    code, _, err = cli("bench", *option)
    assert code == 2
    assert option[0].lstrip("-") in err


def test_it_works_as_it_is(cli, monkeypatch):
    """Nothing replaced but the comparisons, which have tests of their own."""
    monkeypatch.setattr(correctness, "SMALL", correctness.SMALL[-1:])
    monkeypatch.setattr(correctness, "LARGE", ())
    code, out, _ = cli(*TINY, "--alone", "--json")
    assert code == 0
    row = lines_of(out)["row"][0]
    assert row["sgemm_gflops"] > 0
    assert row["step_bytes"] is not None


def test_semifield_convolutions_are_measured_instead(cli, monkeypatch):
    from msdtool.bench import semifield

    monkeypatch.setattr(semifield, "step_growth", lambda prepare: None)
    result = cli("bench", "--semifields", "--size", 16, "--seconds", 0)
    assert result.code == 0
    lines = [line.split() for line in result.out.splitlines()]
    assert ["semifield", "method", "forward", "step", "speed-up", "memory", "share"] in lines
    assert [line[:2] for line in lines if line[:1] == ["max"]] == [
        ["max", "broadcast"],
        ["max", "select"],
    ]
    found = lines_of(cli("bench", "--semifields", "--size", 16, "--seconds", 0, "--json").out)
    assert [row["speedup"] for row in found["row"] if row["method"] == "broadcast"] == [1, 1, 1]
    assert found["machine"][0]["device"]


@pytest.mark.parametrize("option", [("--depth", "3"), ("--full",), ("--figure", "a.png")])
def test_semifields_refuse_what_says_nothing_about_them(refused, option):
    found = refused("bench", "--semifields", *option, code=2)
    expected = f"{option[0]} and --semifields: choose one; semifields take --size and --seconds"
    assert found == expected


def test_semifields_take_one_size(refused):
    found = refused("bench", "--semifields", "--size", 32, "--size", 64, code=2)
    assert found == "--semifields: takes one --size; run it once for each"


@pytest.mark.parametrize("option", ["--figure", "--profile"])
def test_a_result_that_cannot_be_written_is_known_before_the_work(refused, tmp_path, option):
    (tmp_path / "file").write_text("mine")
    path = tmp_path / "file" / "out"
    found = refused(*TINY, option, path, code=2)
    assert found == f"{path}: cannot be written: Not a directory"


@pytest.mark.usefixtures("quick")
def test_a_profile_is_written(cli, tmp_path):
    trace = tmp_path / "trace.json"
    code, out, _ = cli(*TINY, "--depth", "3", "--alone", "--profile", str(trace))
    assert code == 0
    assert json.loads(trace.read_text())["traceEvents"]
    assert "Self CPU time total" in out
    if native_build.available(torch.float32):
        assert {"msd_forward", "msd_backward"} <= set(out.split())


@pytest.mark.usefixtures("quick")
def test_a_gpu_on_which_nothing_fits_has_no_kernels_to_time(monkeypatch):
    from msdtool.bench.cases import Case
    from msdtool.cli import bench

    facts = {"sgemm_gflops": None, "copy_gb_per_second": None}
    assert (
        bench._measure_kernels(
            Case((16, 16), depth=2), torch.device("cuda", 0), facts, bench._nothing
        )
        == []
    )
