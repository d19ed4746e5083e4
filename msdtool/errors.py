"""The errors a user can meet, each with the exit code that the command line maps it to.

A message says what is wrong, where, what was found, what is allowed and what to do next. It names
arguments and config keys, never command-line options: these are added by the command line.
"""


class Error(Exception):
    """Base class: the work failed.

    Attributes:
        message: what is shown to the user.
        hint_key: arguments or config keys that the message advises to use, separated by spaces;
            ``msdtool.cli.hints`` names the option that sets each of them.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint_key: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint_key = hint_key


class InputError(Error, ValueError):
    """Images, labels, their pairing or an argument of a model cannot be used as they are."""

    exit_code = 3


class ModelFileError(InputError):
    """A checkpoint or run directory cannot be read as a model."""


class ConfigError(Error):
    """The experiment's YAML, an argument or a command-line option is wrong."""

    exit_code = 2


class RunDirectoryError(ConfigError):
    """The run directory holds something that must not be overwritten."""


class TrainingError(Error):
    """Training cannot continue, for example because the loss is not finite."""


class KernelError(Error):
    """A kernel cannot be compiled or launched here."""


class DoesNotFit(Error, MemoryError, RuntimeError):  # noqa: N818 - reads as a sentence
    """Memory does not suffice for a piece of work.

    It is a RuntimeError because that is what torch raises where a tensor does not fit.
    """


class Stopped(Error):  # noqa: N818 - nothing went wrong
    """A signal asked the work to stop; a checkpoint of it is saved."""

    exit_code = 75

    def __init__(self, message: str, exit_code: int = 75, *, hint_key: str = "") -> None:
        super().__init__(message, hint_key=hint_key)
        self.exit_code = exit_code


class FailedElsewhere(Error):  # noqa: N818 - the error is another process's
    """Another process of the same work failed and reports why; this one exits silently."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process of the same work failed and reports why")
        self.exit_code = exit_code
