"""The log's lines, on a terminal and in the journal."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from edge_ad.cli.log import log_handler

SAYS = (
    "import logging, os, sys; from edge_ad.cli.log import log_to_stderr\n"
    "there = os.fstat(2)\n"
    "os.environ['JOURNAL_STREAM'] = f'{there.st_dev}:{there.st_ino + int(sys.argv[1])}'\n"
    "log_to_stderr(); log = logging.getLogger('edge_ad')\n"
    "log.info('a'); log.warning('two\\nlines'); log.error('c'); log.critical('d'); log.debug('e')"
)


def said(moved: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SAYS, str(moved)], capture_output=True, text=True, check=True
    )
    return done.stderr.splitlines()


def test_the_journal_gets_priorities_and_no_times() -> None:
    assert said(0) == ["<6>a", "<4>two", "<4>lines", "<3>c", "<2>d"]


def test_who_is_not_the_journal_gets_times() -> None:
    lines = said(1)
    assert [line.split(" ", 2)[2] for line in lines if line != "lines"] == [
        "INFO a", "WARNING two", "ERROR c", "CRITICAL d",
    ]  # fmt: skip


def test_a_standard_error_that_is_no_file_is_not_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoFile:
        def fileno(self) -> int:
            raise ValueError("closed")

        def write(self, _: str) -> int:
            return 0

    monkeypatch.setattr(sys, "stderr", NoFile())
    monkeypatch.setattr("faulthandler.enable", lambda _: None)
    handler = log_handler({"JOURNAL_STREAM": "1:2"})
    record = logging.LogRecord("edge_ad", logging.INFO, os.devnull, 1, "x", None, None)
    assert handler.format(record).endswith(" INFO x")
