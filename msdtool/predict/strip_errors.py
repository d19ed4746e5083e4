"""What goes wrong while an image is computed in strips, in a user's words."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msdtool.errors import DoesNotFit, Error, InputError
from msdtool.lock import InUseError


@contextmanager
def strip_errors(name: str, scratch: Path | None) -> Iterator[None]:
    """Raise errors of `msdtool.nn.msd.MSDModule.stream` that name the image and the next step.

    Args:
        name: what the messages call the image.
        scratch: the folder for its channels; None: the system's for temporary files.

    Raises:
        InputError: the image is too small for the network's dilations.
        Error: it does not fit in memory, its channels do not fit on disk, or another process
            computes the same.
    """
    try:
        yield
    except InputError:
        raise  # of the file, which it names
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
    except DoesNotFit as error:
        raise Error(
            f"{name}: {error}; allow more memory, or use a machine with more", hint_key="memory"
        ) from None
    except InUseError as holder:
        raise Error(
            f"{name}: {holder} is computing the same result; wait for it to end, or stop it"
        ) from None
    except OSError as error:
        raise Error(
            f"{name}: its channels cannot be kept on disk while it is computed: "
            f"{error.strerror}: {scratch or 'the temporary folder'}; choose a scratch folder "
            "with more room",
            hint_key="scratch",
        ) from None
