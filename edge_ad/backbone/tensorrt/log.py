"""What TensorRT says, kept for error messages and passed on to logging.

TensorRT keeps the first logger of a process for what it says outside of any object, and does not hold
it: so there is one, which is never freed, and what it hears goes to whoever is using TensorRT.
"""

from __future__ import annotations

import logging
import threading
from typing import Any
from weakref import WeakSet

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
        with _lock:
            _everybody.add(self)

    def listen(self) -> None:
        """From now on what is said in this thread is for this one; before calls of TensorRT's."""
        _here.messages = self

    def add(self, severity: str, text: str) -> None:
        """Keep one message; `severity` is the name of TensorRT's enum."""
        level = LEVELS.get(severity, logging.ERROR)
        kept = {logging.ERROR: self.errors, logging.WARNING: self.warnings}.get(level)
        line = " ".join(text.split())
        if kept is not None and line not in kept and len(kept) < MOST:
            kept.append(line)

    def last_error(self) -> str:
        """The last error in one line, for the end of a message."""
        return self.errors[-1] if self.errors else "TensorRT gives no reason"


_lock = threading.RLock()  # also by what TensorRT says of an object that goes while this is held
_logs: dict[Any, Any] = {}  # by the library's ILogger
_here = threading.local()
_everybody: WeakSet[Messages] = WeakSet()


def make_log(module: Any) -> tuple[Any, Messages]:
    """The library's one logger, and new messages, which listen in this thread from now on. What threads
    of TensorRT's own say is for everybody."""
    with _lock:
        if module.ILogger not in _logs:
            _logs[module.ILogger] = _new_log(module)
    messages = Messages()
    messages.listen()
    return _logs[module.ILogger], messages


def _new_log(module: Any) -> Any:
    class Log(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            pass_on(severity.name, text)

    return Log()


def pass_on(severity: str, text: str) -> None:
    """One message, to whom it is for."""
    logger.log(LEVELS.get(severity, logging.ERROR), "%s", text)
    heard: Messages | None = getattr(_here, "messages", None)
    if heard is not None:
        heard.add(severity, text)
        return
    with _lock:
        everybody = list(_everybody)
    for messages in everybody:
        messages.add(severity, text)
