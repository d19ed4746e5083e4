"""How commands import torch and what builds on it."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """Import torch without garbage collection, which takes a fifth of the time.

    Modules create a million objects that live as long as the program: no collection finds anything
    to free, and each looks at all of them. Later collections leave them out, too.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
