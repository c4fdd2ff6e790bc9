"""The log's lines, on a terminal and in the journal."""

from __future__ import annotations

import subprocess
import sys

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


def test_a_standard_error_that_is_closed_is_no_reason_to_end() -> None:
    code = "import logging; from edge_ad.cli.log import log_to_stderr, say_error\nlog_to_stderr()"
    code += "\nlogging.getLogger('edge_ad').error('x'); say_error('y'); print('well')"
    done = subprocess.run(
        ["sh", "-c", f'{sys.executable} -c "$1" 2>&-', "sh", code],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "well\n")


def test_why_a_command_ends_has_a_priority_in_the_journal_alone() -> None:
    code = (
        SAYS[: SAYS.index("log_to_stderr();")].replace("log_to_stderr", "say_error") + "say_error('why')"
    )
    for moved, expected in (("0", "<3>why\n"), ("1", "why\n")):
        done = subprocess.run(
            [sys.executable, "-c", code, moved], capture_output=True, text=True, check=True
        )
        assert done.stderr == expected
