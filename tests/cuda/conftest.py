"""The kernels compiled for the CPU, once."""

from __future__ import annotations

import pytest
from emulator import HERE, Emulator, compile_for_cpu


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """The harness."""
    return compile_for_cpu(HERE / "harness.cpp", tmp_path_factory.mktemp("cuda") / "harness")
