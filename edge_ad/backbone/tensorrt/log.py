"""What TensorRT says, kept for error messages and passed on to logging."""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)

MOST = 200  # messages of one kind that are kept; a long build says the same thing over and over
LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.DEBUG,
    "VERBOSE": logging.DEBUG,
}


class Messages:
    """What was said so far: `errors` and `warnings`, each in order and once."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def add(self, severity: str, text: str) -> None:
        """Take one message; `severity` is the name of TensorRT's enum."""
        level = LEVELS.get(severity, logging.ERROR)
        logger.log(level, "%s", text)
        kept = {logging.ERROR: self.errors, logging.WARNING: self.warnings}.get(level)
        line = " ".join(text.split())
        if kept is not None and line not in kept and len(kept) < MOST:
            kept.append(line)

    def last_error(self) -> str:
        """The last error in one line, for the end of a message."""
        return self.errors[-1] if self.errors else "TensorRT gives no reason"


def make_log(module: Any) -> tuple[Any, Messages]:
    """A logger as the library takes it, and what it will have heard. TensorRT calls it from threads of
    its own, and keeps the first logger of a process for what it says outside of any object."""
    messages = Messages()

    class Log(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            messages.add(severity.name, text)

    return Log(), messages
