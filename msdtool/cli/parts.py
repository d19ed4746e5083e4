"""--part and --num-parts: the part of the work that one of many processes does."""

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
    """Follow the options, else the task's place in SLURM's job array, else do all of the work.

    Raises:
        ConfigError: no such part exists, or the array's numbers have gaps.
    """
    if part is None and num_parts is None:
        return _from_slurm(environment)
    if num_parts is None:
        raise ConfigError(f"--part {part}: needs --num-parts, the number of parts")
    if part is None and num_parts > 1:
        raise ConfigError(f"--num-parts {num_parts}: needs --part, from 0 to {num_parts - 1}")
    if part is not None and part >= num_parts:
        raise ConfigError(f"--part {part}: expected a number from 0 to {num_parts - 1}")
    return Part(part or 0, num_parts, "" if num_parts == 1 else "by --part and --num-parts")


def _from_slurm(environment: Mapping[str, str]) -> Part:
    count = _number(environment, "COUNT", 1, least=1)
    if count == 1:
        return Part(0, 1, "")
    first = _number(environment, "MIN", 0)
    last = _number(environment, "MAX", count - 1)
    step = _number(environment, "STEP", 1, least=1)
    task = _number(environment, "ID", 0)
    if (last - first) // step + 1 != count or task not in range(first, last + 1, step):
        raise ConfigError(
            f"the job array has {count} tasks numbered from {first} to {last}, with gaps, so that "
            f"it is not clear which part task {task} is; pass --part and --num-parts (--part 0 "
            "--num-parts 1 for all)"
        )
    return Part((task - first) // step, count, "by SLURM_ARRAY_TASK_ID and _COUNT")


def _number(environment: Mapping[str, str], name: str, default: int, least: int = 0) -> int:
    """A variable of SLURM's job arrays."""
    variable = f"SLURM_ARRAY_TASK_{name}"
    text = environment.get(variable, str(default)).strip()
    if not text.isdecimal() or len(text) > 9 or int(text) < least:
        raise ConfigError(
            f"{variable}: got {text!r}, expected a number not less than {least}; pass --part and "
            "--num-parts (--part 0 --num-parts 1 for all)"
        )
    return int(text)
