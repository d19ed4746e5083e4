import json

import pytest

from msdtool import doctor
from msdtool.doctor import Finding


@pytest.fixture
def findings(monkeypatch):
    found = [Finding("torch", "works", "2.13.0"), Finding("driver", "absent", "no driver")]
    monkeypatch.setattr(doctor, "examine", lambda: iter(found))
    return found


def test_doctor_lists_what_it_finds(cli, findings):
    result = cli("doctor")
    assert (result.code, result.err) == (0, "")
    assert [line.split(maxsplit=2) for line in result.out.splitlines()] == [
        ["works", "torch", "2.13.0"],
        ["absent", "driver", "no driver"],
    ]


def test_something_broken_is_a_failure_with_advice(cli, findings):
    findings.append(
        Finding("kernel cache", "broken", "/x: Permission denied", "set CUPY_CACHE_DIR")
    )
    result = cli("doctor", "--quiet")
    assert result.code == 1
    assert [line.strip() for line in result.out.splitlines()] == [
        "broken  kernel cache          /x: Permission denied",
        "-> set CUPY_CACHE_DIR",
    ]
    assert result.err == "error: broken: kernel cache\n"


def test_json(cli, findings):
    result = cli("doctor", "--json")
    assert json.loads(result.out) == {
        "works": True,
        "findings": [
            {"name": "torch", "state": "works", "found": "2.13.0", "advice": ""},
            {"name": "driver", "state": "absent", "found": "no driver", "advice": ""},
        ],
    }
