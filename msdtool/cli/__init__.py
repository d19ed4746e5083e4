"""The command line: one thin command per file. Only this package prints, draws bars and exits."""

from msdtool.cli.app import main

__all__ = ["main"]
