"""Runs tests marked `fake_driver` in a process of their own, one per file, in which the stand-in for
NVIDIA's driver is found as the driver; what they report is reported here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

DIRECTORY = "EDGE_AD_FAKE_DRIVER"  # set in such a process: where the stand-in lies
REPORTS = "reports.jsonl"
Reports = dict[str, list[pytest.TestReport]]


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Instead of running it here."""
    if item.get_closest_marker("fake_driver") is None or DIRECTORY in os.environ:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In such a process: tell the other."""
    if DIRECTORY in os.environ:
        with (Path(os.environ[DIRECTORY]) / REPORTS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(report._to_json()) + "\n")


_directory = pytest.StashKey[Path]()
_results = pytest.StashKey[dict[Path, tuple[Reports, str]]]()


def _reports(item: pytest.Item) -> list[pytest.TestReport]:
    results = item.session.stash.setdefault(_results, {})
    if item.path not in results:
        results[item.path] = _run(item)
    reports, output = results[item.path]
    if found := reports.get(item.nodeid):
        return found
    text = f"{item.nodeid}: the process ended before it:\n{output}"
    return [pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")]


def _run(item: pytest.Item) -> tuple[Reports, str]:
    if _directory not in item.session.stash:
        factory = pytest.TempPathFactory.from_config(item.config, _ispytest=True)
        item.session.stash[_directory] = factory.mktemp("fake_driver")
    directory = item.session.stash[_directory]
    (directory / REPORTS).write_text("")
    nodes = [other.nodeid for other in item.session.items if other.path == item.path]
    path = os.pathsep.join(filter(None, [str(directory), os.environ.get("LD_LIBRARY_PATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *nodes],
        cwd=item.config.rootpath,
        env=os.environ | {DIRECTORY: str(directory), "LD_LIBRARY_PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    reports: Reports = defaultdict(list)
    for line in (directory / REPORTS).read_text().splitlines():
        report = pytest.TestReport._from_json(json.loads(line))
        reports[report.nodeid].append(report)
    return reports, f"{done.returncode}: {(done.stdout + done.stderr)[-4000:]}"
