"""msdtool init"""

import pytest

from msdtool.cli.init import Template
from msdtool.config import load_config
from msdtool.resources import resource_folder

TEMPLATES = [template.value for template in Template if template.file.endswith(".yaml")]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_is_printed_or_written(cli, tmp_path, template):
    text = (resource_folder("configs") / f"{template}.yaml").read_text(encoding="utf-8")
    printed = cli("init", template)
    assert (printed.code, printed.out, printed.err) == (0, text, "")
    path = tmp_path / "new" / "a.yaml"
    written = cli("init", template, "-o", path)
    assert (written.code, written.out, written.err) == (0, f"{path}\n", "")
    assert path.read_text(encoding="utf-8") == text
    assert load_config(path).task in ("regression", "segmentation")


@pytest.mark.parametrize(
    ("template", "file"),
    [
        *((f"slurm-{name}", f"slurm/{name}.sbatch") for name in ("node", "nodes", "predict")),
        *((f"{name}-train", f"{name}/train.{name}") for name in ("lsf", "pbs", "sge")),
    ],
)
def test_batch_scripts_are_templates_too(cli, template, file):
    text = (resource_folder("configs") / file).read_text("utf-8")
    assert cli("init", template) == (0, text, "")


def test_without_a_name_it_is_the_denoising_template(cli):
    assert cli("init").out == cli("init", "denoise").out


def test_a_file_that_exists_is_kept(cli, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("mine")
    result = cli("init", "-o", path)
    expected = f"error: {path}: already exists; choose another name or remove it\n"
    assert (result.code, result.out, result.err) == (2, "", expected)
    assert path.read_text() == "mine"


def test_an_unknown_template_is_refused_with_the_known_ones(cli):
    result = cli("init", "denois")
    assert result.code == 2
    assert "'denois' is not one of 'denoise', 'segment'" in result.err


def test_a_file_that_cannot_be_written_is_named(cli, tmp_path):
    (tmp_path / "file").touch()
    result = cli("init", "-o", tmp_path / "file" / "a.yaml")
    assert result.code == 1
    assert result.err == f"error: {tmp_path}/file/a.yaml: cannot be written: Not a directory\n"
