"""--part, --num-parts, and the job arrays of schedulers."""

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


def grid_engine(task, first, last, step):
    values = {"ID": task, "FIRST": first, "LAST": last, "STEPSIZE": step}
    return {f"SGE_TASK_{name}": str(value) for name, value in values.items()}


def lsf(task, last, step=1):
    values = {"LSB_JOBINDEX": task, "LSB_JOBINDEX_END": last, "LSB_JOBINDEX_STEP": step}
    return {name: str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("num_parts", "environment", "expected"),
    [
        (None, grid_engine(3, 1, 8, 1), (2, 8)),
        (None, grid_engine(7, 3, 9, 2), (2, 4)),
        (None, {"SGE_TASK_ID": "undefined", "SGE_TASK_LAST": "undefined"}, (0, 1)),
        (None, lsf(8, 8), (7, 8)),
        (None, lsf(5, 9, 2), (2, 5)),
        (None, lsf(0, 0), (0, 1)),  # a job that is no array
        (8, {"PBS_ARRAY_INDEX": "3"}, (3, 8)),
        (1, {"PBS_ARRAY_INDEX": "3"}, (0, 1)),
    ],
)
def test_other_schedulers_have_arrays_too(num_parts, environment, expected):
    part = choose_part(None, num_parts, environment)
    assert (part.index, part.count) == expected
    assert choose_part(1, 2, environment).index == 1  # the options win


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
        (
            (None, None),
            {"PBS_ARRAY_INDEX": "3"},
            "this is a task of a job array of PBS, which does not",
        ),
        ((None, 3), {"PBS_ARRAY_INDEX": "3"}, "--part 3: expected a number from 0 to 2"),
        ((None, 3), {"PBS_ARRAY_INDEX": "x"}, "PBS_ARRAY_INDEX: got 'x', expected a number not"),
        ((None, None), grid_engine(9, 1, 8, 1), "the job array has 8 tasks numbered from 1 to 8"),
        ((None, None), lsf(4, 9, 2), "the job array has 5 tasks numbered from 1 to 9"),
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
