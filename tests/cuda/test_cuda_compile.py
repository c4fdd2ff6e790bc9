"""nvcc compiles the kernels for every architecture, without spilling a register."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_ad.errors import DeviceError
from edge_ad.gaussian.cuda.nvcc import (
    ARCHITECTURES,
    KERNELS,
    Usage,
    compile_kernels,
    find_nvcc,
    parse_usage,
    report,
    version,
)

REPORT = Path(__file__).resolve().parents[2] / "calibration" / "cuda_kernels.txt"


@pytest.fixture(scope="module")
def nvcc() -> Path:
    """The compiler, where there is one; without it: skipped, which fails under CI."""
    found = find_nvcc()
    if found is None:
        pytest.skip("no nvcc; pip install 'cuda-toolkit[nvcc,cccl]'")
    return found


@pytest.fixture(scope="module")
def usage(nvcc: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Usage]:
    """Of every kernel for every architecture."""
    target = tmp_path_factory.mktemp("nvcc") / "mahalanobis.fatbin"
    found = compile_kernels(nvcc, target)
    assert target.stat().st_size > 10_000
    return found


def test_every_kernel_for_every_architecture_without_a_spill(usage: list[Usage]) -> None:
    assert {(u.kernel, u.architecture) for u in usage} == {
        (kernel, architecture) for kernel in KERNELS for architecture in ARCHITECTURES
    }
    assert [u for u in usage if u.spilled or u.stack] == []
    # Four blocks of 256 threads share a multiprocessor's 65,536 registers.
    assert max(u.registers for u in usage) <= 64


def test_the_committed_report(nvcc: Path, usage: list[Usage]) -> None:
    """It is that of its compiler; another one may need other registers."""
    committed = REPORT.read_text(encoding="utf-8")
    current = report(nvcc, usage)
    if f"nvcc {version(nvcc)}," in committed:
        assert committed == current
    else:
        assert [line.split()[:2] for line in committed.splitlines()[3:]] == [
            line.split()[:2] for line in current.splitlines()[3:]
        ]


def test_a_source_that_does_not_compile_is_told(nvcc: Path, tmp_path: Path) -> None:
    source = tmp_path / "broken.cu"
    source.write_text("__global__ void broken() { int unused; undeclared(); }\n")
    with pytest.raises(DeviceError, match="undeclared"):
        compile_kernels(nvcc, tmp_path / "broken.fatbin", (90,), source)
    with pytest.raises(DeviceError, match="install"):
        version(tmp_path / "nowhere" / "nvcc")


def test_spills_are_read_from_what_the_compiler_tells() -> None:
    told = """ptxas info    : Compiling entry function 'cell_distances' for 'sm_90'
ptxas info    : Function properties for cell_distances
    16 bytes stack frame, 12 bytes spill stores, 28 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 16 bytes cumulative stack size, 1024 bytes smem
"""
    assert parse_usage(told) == [Usage("cell_distances", 90, 40, 16, 40, 1024)]
    with pytest.raises(DeviceError, match="not understood"):
        parse_usage("Compiling entry function 'a' for 'sm_90'\nsomething else")
