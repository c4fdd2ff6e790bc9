"""The log of a program that runs for months, on standard error."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from collections.abc import Mapping

import click

# What syslog and the journal call them.
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}


class _ForTheJournal(logging.Formatter):
    """The journal stamps lines itself, and takes their priority from "<4>" at the beginning of each."""

    def __init__(self) -> None:
        super().__init__("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        priority = _PRIORITIES.get(record.levelno, 7)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines() or [""])


def log_handler(environment: Mapping[str, str] = os.environ) -> logging.Handler:
    """What writes the lines. From now on a process that crashes, or is ended by the watchdog (SIGABRT),
    writes where each of its threads is."""
    if sys.stderr is None:  # closed by who started this
        return logging.NullHandler()
    faulthandler.enable(sys.stderr)
    handler = logging.StreamHandler(sys.stderr)
    if is_journal(environment):
        handler.setFormatter(_ForTheJournal())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return handler


def log_to_stderr() -> None:
    """Have everything from INFO on written, by the thread that has something to say."""
    logging.basicConfig(level=logging.INFO, handlers=[log_handler()])


def say_error(text: str) -> None:
    """Why a program ends, for the person who called it or for the journal."""
    click.echo(f"<{_PRIORITIES[logging.ERROR]}>{text}" if is_journal() else text, err=True)


def is_journal(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether standard error is what systemd connected to the journal, and not sent elsewhere since."""
    try:
        there = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"
