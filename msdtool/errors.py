"""The errors a user can meet, each with the exit code the command line gives it.

A message says what is wrong, where, what was found, what is allowed and what to do next.
"""


class Error(Exception):
    """Base class: the work failed."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InputError(Error):
    """Images, labels or their pairing cannot be used as they are."""

    exit_code = 3


class ModelFileError(InputError):
    """A checkpoint or run directory cannot be read as a model."""


class ConfigError(Error):
    """The experiment's YAML or a command-line option is wrong."""

    exit_code = 2


class RunDirectoryError(ConfigError):
    """The run directory holds something that must not be overwritten."""


class TrainingError(Error):
    """Training cannot go on, for example because the loss is not finite."""


class KernelError(Error):
    """A kernel cannot be compiled or launched here."""


class Stopped(Error):  # noqa: N818 - nothing went wrong
    """A signal asked the work to stop; a checkpoint of it is saved."""

    exit_code = 75

    def __init__(self, message: str, exit_code: int = 75) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class FailedElsewhere(Error):  # noqa: N818 - the error is another process's
    """Another process of the same work failed, and says why; this one ends without a word."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process of the same work failed, and says why")
        self.exit_code = exit_code
