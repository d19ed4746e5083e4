"""msdtool doctor"""

from msdtool.cli import console
from msdtool.cli.options import Json, Quiet

NAME_WIDTH = 20


def command(json: Json = False, quiet: Quiet = False) -> None:
    """Examine this machine: driver, CUDA, CuPy, compilers, caches, and a self-test of every kernel.

    Exit code 0 if everything that this machine has works: having no GPU is not a failure. Exit
    code 1 if something is broken; each failure explains how to fix it.

    Example: msdtool doctor
    """
    from msdtool.doctor import BROKEN, examine
    from msdtool.errors import Error

    findings = []
    for finding in examine():
        findings.append(finding)
        if json or (quiet and finding.state != BROKEN):
            continue
        console.result_text(f"{finding.state:<6}  {finding.name:<{NAME_WIDTH}}  {finding.found}")
        if finding.advice:
            console.result_text(f"{'':<{NAME_WIDTH + 10}}-> {finding.advice}")
    broken = [finding for finding in findings if finding.state == BROKEN]
    if json:
        console.result_json(
            {"works": not broken, "findings": [finding.as_dict() for finding in findings]}
        )
    if broken:
        raise Error(f"broken: {', '.join(finding.name for finding in broken)}")
