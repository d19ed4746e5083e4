"""What libraries say in their logs alone: that a file is damaged, mostly."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collected(name: str, level: int = logging.NOTSET) -> Iterator[list[str]]:
    """Collect what a library logs, from a level on, instead of printing it."""
    messages: list[str] = []
    handler = logging.Handler(level)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(name)
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
