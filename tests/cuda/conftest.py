"""The kernels compiled for the CPU, once, and the stand-in for NVIDIA's driver."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from apart import DIRECTORY, pytest_collection_modifyitems, pytest_configure
from emulator import HERE, Emulator, compile_for_cpu
from fake_driver import NAME, FakeDriver, build

from edge_ad.cuda.device import Device

__all__ = ["pytest_collection_modifyitems", "pytest_configure"]


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """The harness."""
    return compile_for_cpu(HERE / "harness.cpp", tmp_path_factory.mktemp("cuda") / "harness")


@pytest.fixture(scope="session")
def fake_library() -> Path:
    """The stand-in, where the loader of this process looks for it."""
    directory = Path(os.environ[DIRECTORY])
    return directory / NAME if (directory / NAME).exists() else build(directory)


@pytest.fixture
def fake(fake_library: Path) -> Iterator[FakeDriver]:
    """Its levers, as they are at first; nothing may be left in it."""
    driver = FakeDriver(fake_library)
    driver.fresh()
    yield driver
    driver.nothing_left()


@pytest.fixture
def device(fake: FakeDriver) -> Iterator[Device]:
    """The stand-in's GPU."""
    with Device() as opened:
        yield opened
