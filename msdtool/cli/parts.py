"""--part and --num-parts: the share of the work that one of many processes does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import typer

from msdtool.errors import ConfigError

PartIndex = Annotated[
    int | None,
    typer.Option("--part", min=0, help="Which part to do, from 0. Default: SLURM's array task."),
]
NumParts = Annotated[
    int | None,
    typer.Option("--num-parts", min=1, help="Divide the files. Default: SLURM's array tasks."),
]


@dataclass(frozen=True)
class Part:
    """A share of the work.

    Attributes:
        index: from 0.
        count: how many shares there are.
        origin: what says so, for people; empty if nobody did and this is all of the work.
    """

    index: int
    count: int
    origin: str

    def __str__(self) -> str:
        return f"part {self.index} of {self.count} ({self.origin})"


def choose_part(part: int | None, num_parts: int | None, environment: Mapping[str, str]) -> Part:
    """Take what the options say, else the place in SLURM's job array, else all of the work.

    Raises:
        ConfigError: there is no such part, or the array's numbers have gaps.
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
    count = int(environment.get("SLURM_ARRAY_TASK_COUNT", "1"))
    if count == 1:
        return Part(0, 1, "")
    task, first, last, step = (
        int(environment.get(f"SLURM_ARRAY_TASK_{name}", default))
        for name, default in (("ID", "0"), ("MIN", "0"), ("MAX", str(count - 1)), ("STEP", "1"))
    )
    if (last - first) // step + 1 != count:
        raise ConfigError(
            f"the job array has {count} tasks with numbers from {first} to {last}, some of which "
            "are left out, so that it is not clear which part this is; give --part and --num-parts "
            "(--part 0 --num-parts 1 for all)"
        )
    return Part((task - first) // step, count, "by SLURM_ARRAY_TASK_ID and _COUNT")
