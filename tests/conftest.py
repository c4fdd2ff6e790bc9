"""Two tiers and one rule: slow tests run with EDGE_AD_SLOW=1; under CI a skipped test is a failure."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from small_disk import Mount, mount_small, unmount

SLOW = os.environ.get("EDGE_AD_SLOW") == "1"
_SLOW_S = 3600.0
CI = os.environ.get("EDGE_AD_CI") == "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect (not skip) the slow tier unless it was asked for; it has its own, longer time limit."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    if SLOW:
        for item in items:  # any may have to wait for one that wants the machine for itself
            own = item.get_closest_marker("timeout")
            if own is None or own.args[0] < _SLOW_S:
                item.add_marker(pytest.mark.timeout(_SLOW_S), append=False)
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


@pytest.fixture(autouse=True)
def machine_is_shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """In the slow tier nothing runs beside a test that is marked `alone`: it is about time, and its
    processes need all cores."""
    if not SLOW:
        yield
        return
    alone = request.node.get_closest_marker("alone") is not None
    with (tmp_path_factory.getbasetemp().parent / "machine.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@pytest.fixture(scope="module")
def build() -> Iterator[ModuleType]:
    """The script that makes the package."""
    place = str(Path(__file__).resolve().parents[1] / "deploy" / "package")
    sys.path.insert(0, place)
    import build

    yield build
    sys.path.remove(place)


@pytest.fixture
def small_disk() -> Iterator[Mount]:
    """Mounts a disk of 2 MB at a directory."""
    mounted: list[Path] = []
    if os.geteuid():
        pytest.skip("only root may mount a disk")

    def mount(at: Path) -> Path:
        mounted.append(mount_small(at))
        return at

    yield mount
    for at in mounted:
        unmount(at)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The directory of real images and weights that lies beside the repository."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not (path / "data").is_dir():
        pytest.skip(f"{path} is not there: real images and weights are not part of the repository")
    return path
