"""The kernels compiled for the CPU, and for GPUs by both compilers, each once; and the stand-in for
NVIDIA's driver."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from apart import DIRECTORY, pytest_collection_modifyitems, pytest_configure
from built_binaries import Built
from emulator import HERE, Emulator, compile_for_cpu
from fake_driver import NAME, FakeDriver, build
from preprocess_emulator import SOURCES, PreprocessEmulator

from edge_ad.cuda.build import build_binaries
from edge_ad.cuda.device import Device
from edge_ad.cuda.nvcc import find_nvcc
from edge_ad.cuda.nvrtc import find_cuda12

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


@pytest.fixture(scope="session")
def nvcc() -> Path:
    """CUDA 13's compiler, where there is one; without it: skipped, which fails under CI."""
    found = find_nvcc()
    if found is None:
        pytest.skip("no nvcc; .ci/run says what to install")
    return found


@pytest.fixture(scope="session")
def cuda12() -> Path:
    """CUDA 12's compiler, where there is one; without it: skipped, which fails under CI."""
    found = find_cuda12()
    if found is None:
        pytest.skip("no NVRTC of CUDA 12.2; .ci/run says what to install")
    return found


@pytest.fixture(scope="session")
def built(nvcc: Path, cuda12: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """By the compilers that are installed."""
    directory = tmp_path_factory.mktemp("binaries")
    return Built(directory, build_binaries(directory))


@pytest.fixture(scope="session")
def preprocess(tmp_path_factory: pytest.TempPathFactory) -> PreprocessEmulator:
    """The harness of the preprocess kernels."""
    program = tmp_path_factory.mktemp("cuda") / "preprocess_harness"
    return PreprocessEmulator(compile_for_cpu(HERE / "preprocess_harness.cpp", program, SOURCES).program)
