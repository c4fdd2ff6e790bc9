"""Both compilers compile the kernels for every architecture, without spilling a register."""

from __future__ import annotations

import locale
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from built_binaries import Built

from edge_ad.cuda import build, nvrtc
from edge_ad.cuda import nvcc as nvcc_module
from edge_ad.cuda.binaries import TOOLKITS
from edge_ad.cuda.sources import SOURCES
from edge_ad.cuda.usage import Usage, parse_usage, report
from edge_ad.errors import DeviceError

REPORT = Path(__file__).resolve().parents[2] / "calibration" / "cuda_kernels.txt"


def test_every_kernel_for_every_architecture_without_a_spill(built: Built) -> None:
    kernels = {kernel for source in SOURCES for kernel in source.kernels}
    for toolkit, used in zip(TOOLKITS, built.usage.values(), strict=True):
        assert {(u.kernel, u.architecture) for u in used} == {
            (kernel, architecture) for kernel in kernels for architecture in toolkit.architectures
        }
        assert [u for u in used if u.spilled or u.stack] == []
        # Four blocks of 256 threads share a multiprocessor's 65,536 registers.
        assert max(u.registers for u in used) <= 64


def test_the_committed_report(built: Built) -> None:
    """It is that of its compilers; others may need other registers."""
    committed = REPORT.read_text(encoding="utf-8")
    current = report(built.usage)
    if all(f"by {compiler}\n" in committed for compiler in built.usage):
        assert committed == current
    else:
        names, others = (
            [line.split()[:2] for line in text.splitlines()] for text in (committed, current)
        )
        assert names == others


@pytest.mark.parametrize(
    ("compiler", "module"), [("nvcc", nvcc_module), ("cuda12", nvrtc)], ids=["nvcc", "NVRTC"]
)
def test_a_source_that_does_not_compile_or_warns_is_told(
    compiler: str, module: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    found, source = request.getfixturevalue(compiler), tmp_path / "broken.cu"
    compile_kernels: Callable[..., list[Usage]] = module.compile_kernels
    source.write_text("__global__ void broken() { undeclared(); }\n")
    with pytest.raises(DeviceError, match="undeclared"):
        compile_kernels(found, tmp_path / "broken.fatbin", source, (90,), 75)
    source.write_text('extern "C" __global__ void doubtful(int* a) { int unused; *a = 1; }\n')
    with pytest.raises(DeviceError, match="unused"):
        compile_kernels(found, tmp_path / "broken.fatbin", source, (90,), 75)
    with pytest.raises(DeviceError, match="install"):
        module.version(tmp_path / "nowhere")


def test_the_compiler_leaves_text_files_as_they_were(cuda12: Path, tmp_path: Path) -> None:
    before = locale.getpreferredencoding(False)
    source = tmp_path / "nothing.cu"
    source.write_text('extern "C" __global__ void nothing() {}\n')
    nvrtc.compile_kernels(cuda12, tmp_path / "nothing.fatbin", source, (90,), 75)
    assert locale.getpreferredencoding(False) == before


def test_without_a_compiler_the_build_says_which(
    nvcc: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build.cuda12, "find_cuda12", lambda: None)
    with pytest.raises(DeviceError, match=r"nvidia-cuda-nvrtc-cu12==12\.2"):
        build.build_binaries(tmp_path)
    monkeypatch.setattr(build.cuda13, "find_nvcc", lambda: None)
    with pytest.raises(DeviceError, match=r"cuda-toolkit\[nvcc,cccl\]==13\.0"):
        build.build_binaries(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_spills_are_read_from_what_the_compiler_tells() -> None:
    told = """ptxas info    : Compiling entry function 'cell_distances' for 'sm_90'
ptxas info    : Function properties for cell_distances
    16 bytes stack frame, 12 bytes spill stores, 28 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 16 bytes cumulative stack size, 1024 bytes smem
"""
    assert parse_usage(told) == [Usage("cell_distances", 90, 40, 16, 40, 1024)]
    with pytest.raises(DeviceError, match="not understood"):
        parse_usage("Compiling entry function 'a' for 'sm_90'\nsomething else")
