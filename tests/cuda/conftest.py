"""The kernels compiled for the CPU, once."""

from __future__ import annotations

import pytest
from emulator import HERE, Emulator, compile_for_cpu
from preprocess_emulator import SOURCES, PreprocessEmulator


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """The harness."""
    return compile_for_cpu(HERE / "harness.cpp", tmp_path_factory.mktemp("cuda") / "harness")


@pytest.fixture(scope="session")
def preprocess(tmp_path_factory: pytest.TempPathFactory) -> PreprocessEmulator:
    """The harness of the preprocess kernels."""
    program = tmp_path_factory.mktemp("cuda") / "preprocess_harness"
    return PreprocessEmulator(compile_for_cpu(HERE / "preprocess_harness.cpp", program, SOURCES).program)
