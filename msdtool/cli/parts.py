"""--part and --num-parts: the part of the work that one of many processes does.

Without these options the variables decide that schedulers set in the tasks of job arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from msdtool.errors import ConfigError


@dataclass(frozen=True)
class Part:
    """A part of the work.

    Attributes:
        index: from 0.
        count: number of parts.
        origin: what decided so, for people; empty if nothing did and this is all of the work.
    """

    index: int
    count: int
    origin: str

    def __str__(self) -> str:
        return f"part {self.index} of {self.count} ({self.origin})"


def choose_part(part: int | None, num_parts: int | None, environment: Mapping[str, str]) -> Part:
    """Follow the options, else the task's place in a job array, else do all of the work.

    Raises:
        ConfigError: no such part exists, the array's numbers have gaps, or the scheduler does not
            say how many there are.
    """
    if part is None and num_parts is None:
        return _from_array(environment)
    if part is None and "PBS_ARRAY_INDEX" in environment and num_parts != 1:
        part = _number(environment, "PBS_ARRAY_INDEX", 0)
    if num_parts is None:
        raise ConfigError(f"--part {part}: needs --num-parts, the number of parts")
    if part is None and num_parts > 1:
        raise ConfigError(f"--num-parts {num_parts}: needs --part, from 0 to {num_parts - 1}")
    if part is not None and part >= num_parts:
        raise ConfigError(f"--part {part}: expected a number from 0 to {num_parts - 1}")
    return Part(part or 0, num_parts, "" if num_parts == 1 else "by --part and --num-parts")


def _from_array(environment: Mapping[str, str]) -> Part:
    """The part of a task of SLURM, Grid Engine or LSF."""
    if environment.get("SGE_TASK_ID", "undefined") != "undefined":
        return _place(environment, "SGE_TASK_ID", *(
            _number(environment, f"SGE_TASK_{name}", 1, least=1)
            for name in ("FIRST", "LAST", "STEPSIZE")
        ))  # fmt: skip
    if environment.get("LSB_JOBINDEX", "0") != "0":
        last = _number(environment, "LSB_JOBINDEX_END", 1, least=1)
        step = _number(environment, "LSB_JOBINDEX_STEP", 1, least=1)
        return _place(environment, "LSB_JOBINDEX", 1, last, step)
    if "PBS_ARRAY_INDEX" in environment:
        raise ConfigError(
            "this is a task of a job array of PBS, which does not say how many tasks there are; "
            "pass --num-parts with their number, counted from 0 as by qsub -J 0-7"
        )
    count = _number(environment, "SLURM_ARRAY_TASK_COUNT", 1, least=1)
    first = _number(environment, "SLURM_ARRAY_TASK_MIN", 0)
    last = _number(environment, "SLURM_ARRAY_TASK_MAX", first + count - 1)
    step = _number(environment, "SLURM_ARRAY_TASK_STEP", 1, least=1)
    return _place(environment, "SLURM_ARRAY_TASK_ID", first, last, step, count)


def _place(
    environment: Mapping[str, str],
    variable: str,
    first: int,
    last: int,
    step: int,
    count: int | None = None,
) -> Part:
    """The part of the task whose number a variable holds, of those from first to last.

    Raises:
        ConfigError: there are not ``count`` of them, or the task is none of them.
    """
    numbers = range(first, last + 1, step)
    count = len(numbers) if count is None else count
    if count == 1:
        return Part(0, 1, "")
    task = _number(environment, variable, 0)
    if len(numbers) != count or task not in numbers:
        raise ConfigError(
            f"the job array has {count} tasks numbered from {first} to {last}, with gaps, so that "
            f"it is not clear which part task {task} is; pass --part and --num-parts (--part 0 "
            "--num-parts 1 for all)"
        )
    return Part(numbers.index(task), count, f"by {variable}")


def _number(environment: Mapping[str, str], variable: str, default: int, least: int = 0) -> int:
    """A variable of job arrays."""
    text = environment.get(variable, str(default)).strip()
    if not text.isdecimal() or len(text) > 9 or int(text) < least:
        raise ConfigError(
            f"{variable}: got {text!r}, expected a number not less than {least}; pass --part and "
            "--num-parts (--part 0 --num-parts 1 for all)"
        )
    return int(text)
