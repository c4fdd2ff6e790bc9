"""Runs tests marked `fake_driver` in a process of their own, one per file, in which the stand-in for
NVIDIA's driver is found as the driver; what they report is reported here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

DIRECTORY = "EDGE_AD_FAKE_DRIVER"  # set in such a process: where the stand-in lies
REPORTS = "reports.jsonl"

_directory = pytest.StashKey[tempfile.TemporaryDirectory[str]]()
_results = pytest.StashKey[dict[Path, dict[str, list[dict[str, str]]]]]()


class FailedApart(Exception):
    """A test failed in the other process; its text is what was reported there."""


class Apart(pytest.Item):
    """A test that runs in the other process."""

    def runtest(self) -> None:
        results = self.session.stash.setdefault(_results, {})
        if self.path not in results:
            results[self.path] = _run(self)
        for report in results[self.path].get(self.nodeid) or results[self.path][""]:
            if report["outcome"] == "skipped":
                pytest.skip(report["text"])
            if report["outcome"] == "failed":
                raise FailedApart(report["text"])

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, FailedApart):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


def pytest_configure(config: pytest.Config) -> None:
    """In such a process: tell the other."""
    if DIRECTORY in os.environ:
        config.pluginmanager.register(_Teller())


class _Teller:
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        sections = "".join(f"\n{name}:\n{text}" for name, text in report.sections)
        text = f"{report.when}: {report.longreprtext}{sections}"
        told = {"nodeid": report.nodeid, "outcome": report.outcome, "text": text}
        with (Path(os.environ[DIRECTORY]) / REPORTS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(told) + "\n")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Elsewhere: have the tests run in one, once it is known which are selected."""
    if DIRECTORY in os.environ:
        return
    for i, item in enumerate(items):
        if item.get_closest_marker("fake_driver"):
            items[i] = Apart.from_parent(item.parent, name=item.name)


def _run(item: pytest.Item) -> dict[str, list[dict[str, str]]]:
    """What is reported of each test of the item's file, and "" of one that was not reached."""
    if _directory not in item.session.stash:
        item.session.stash[_directory] = tempfile.TemporaryDirectory()
    directory = Path(item.session.stash[_directory].name)
    (directory / REPORTS).write_text("")
    nodes = [other.nodeid for other in item.session.items if other.path == item.path]
    path = os.pathsep.join(filter(None, [str(directory), os.environ.get("LD_LIBRARY_PATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *nodes],
        cwd=item.config.rootpath,
        env=os.environ | {DIRECTORY: str(directory), "LD_LIBRARY_PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    output = f"the process ended with {done.returncode}: {(done.stdout + done.stderr)[-4000:]}"
    results = {"": [{"outcome": "failed", "text": output}]}
    for line in (directory / REPORTS).read_text(encoding="utf-8").splitlines():
        told = json.loads(line)
        results.setdefault(told["nodeid"], []).append(told)
    return results
