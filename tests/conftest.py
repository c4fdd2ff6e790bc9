"""Two tiers and one rule: slow tests run with EDGE_AD_SLOW=1; under CI a skipped test is a failure."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

SLOW = os.environ.get("EDGE_AD_SLOW") == "1"
CI = os.environ.get("EDGE_AD_CI") == "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect (not skip) the slow tier unless it was asked for; it has its own, longer time limit."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    if SLOW:
        for item in slow:
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(3600))
        return
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI everything a test needs has been installed, so a skip means that something is wrong."""
    report = yield
    if CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped under CI: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def shared() -> Path:
    """The directory of real images and weights that lies beside the repository."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not (path / "data").is_dir():
        pytest.skip(f"{path} is not there: real images and weights are not part of the repository")
    return path
