"""--part, --num-parts, and SLURM's job arrays."""

import pytest

from msdtool.cli.parts import choose_part
from msdtool.errors import ConfigError


def array(task, first, last, step=1, count=None):
    numbers = range(first, last + 1, step)
    values = {"ID": task, "MIN": first, "MAX": last, "STEP": step, "COUNT": count or len(numbers)}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ((None, None), {}, (0, 1)),
        ((2, 5), {}, (2, 5)),
        ((2, 5), array(0, 0, 7), (2, 5)),  # the options win
        ((None, 1), array(3, 0, 7), (0, 1)),
        ((None, None), array(3, 0, 7), (3, 8)),
        ((None, None), array(3, 1, 8), (2, 8)),
        ((None, None), array(9, 1, 13, 4), (2, 4)),
        ((None, None), array(5, 5, 5), (0, 1)),
    ],
)
def test_the_part_is_that_of_the_options_or_of_the_array(options, environment, expected):
    part = choose_part(*options, environment)
    assert (part.index, part.count) == expected


@pytest.mark.parametrize("numbers", [range(8), range(1, 9), range(1, 14, 4)])
def test_the_tasks_of_an_array_are_all_parts(numbers):
    environments = [array(n, numbers[0], numbers[-1], numbers.step) for n in numbers]
    parts = [choose_part(None, None, environment) for environment in environments]
    assert [part.index for part in parts] == list(range(len(numbers)))


@pytest.mark.parametrize(
    ("options", "environment", "message"),
    [
        ((1, None), {}, "--part 1: needs --num-parts, the number of parts"),
        ((None, 3), {}, "--num-parts 3: needs --part, from 0 to 2"),
        ((3, 3), {}, "--part 3: expected a number from 0 to 2"),
        # sbatch --array=1,3,7, to do again what failed
        ((None, None), array(3, 1, 7, 1, 3), "the job array has 3 tasks numbered from 1 to 7"),
        ((None, None), array(8, 0, 7), "the job array has 8 tasks numbered from 0 to 7"),
        ((None, None), array("x", 0, 7), "SLURM_ARRAY_TASK_ID: got 'x', expected a number not"),
        ((None, None), array("", 0, 7), "SLURM_ARRAY_TASK_ID: got '', expected a number not"),
        ((None, None), array("9" * 30, 0, 7), "SLURM_ARRAY_TASK_ID: got '999"),
        ((None, None), array(0, 0, 7, count="x"), "SLURM_ARRAY_TASK_COUNT: got 'x', expected"),
        ((None, None), array(0, 0, 7, count=-1), "SLURM_ARRAY_TASK_COUNT: got '-1', expected"),
        (
            (None, None),
            array(0, 0, 7) | {"SLURM_ARRAY_TASK_STEP": "0"},
            "SLURM_ARRAY_TASK_STEP: got '0', expected a number not less than 1",
        ),
    ],
)
def test_what_is_not_clear_is_an_error(options, environment, message):
    with pytest.raises(ConfigError) as error:
        choose_part(*options, environment)
    assert error.value.message.startswith(message)
