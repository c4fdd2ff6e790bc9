"""What a PC without a driver, or without the packages for it, is told; nothing is loaded before that."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from edge_ad.cuda.driver import read_driver
from edge_ad.cuda.failure import libraries
from edge_ad.errors import DeviceError

PACKAGE = Path(__file__).resolve().parents[2] / "edge_ad"


# A driver of one card, an RTX 4090's numbers; FAIL is the function that returns the error CODE.
DRIVER = r"""
#include <cstring>
#include <cstddef>
static int code(const char *name) { return std::strcmp(name, FAIL) ? 0 : CODE; }
extern "C" {
int cuInit(unsigned) { return code("cuInit"); }
int cuDriverGetVersion(int *v) { *v = 12060; return code("cuDriverGetVersion"); }
int cuGetErrorName(int code, const char **s) {
    *s = "CUDA_ERROR_OF_THE_TEST";
    return code == 5 ? 0 : 1;
}
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGet(int *d, int ordinal) { *d = 7; return ordinal; }
int cuDeviceGetName(char *s, int n, int d) {
    std::strncpy(s, "NVIDIA GeForce RTX 4090", n);
    return d - 7;
}
int cuDeviceTotalMem_v2(size_t *n, int d) { *n = 25386352640; return d - 7; }
int cuDeviceGetAttribute(int *v, int a, int d) {
    switch (a) {
    case 8: *v = 49152; break;
    case 16: *v = 128; break;
    case 18: *v = 0; break;
    case 32: *v = 1; break;
    case 37: *v = 384; break;
    case 38: *v = 75497472; break;
    case 75: *v = 8; break;
    case 76: *v = 9; break;
    case 81: *v = 102400; break;
    case 97: *v = 101376; break;
    case 99: *v = 1; break;
    default: return 1;
    }
    return d == 7 ? code("cuDeviceGetAttribute") : 101;
}
}
"""


def _driver(directory: Path, fails: str = "none", code: int = 100) -> Any:
    """What `read_driver` loads in place of the driver."""
    source = directory / "cuda.cpp"
    source.write_text(DRIVER)
    # A name for each: a library that is loaded is not loaded again.
    target = directory / f"{fails}-{code}.so"
    defines = f'-DFAIL="{fails}"', f"-DCODE={code}"
    subprocess.run(["g++", "-shared", "-fPIC", *defines, "-o", target, source], check=True)
    return lambda _: ctypes.CDLL(str(target))


def test_a_card_is_read_through_the_drivers_own_functions(tmp_path: Path) -> None:
    driver = read_driver(load=_driver(tmp_path), root=tmp_path)
    assert (driver.version, driver.release, driver.text) == (12060, "", "CUDA 12.6")
    assert driver.page_locks
    card = driver.device
    assert card.name == "NVIDIA GeForce RTX 4090"
    assert (card.compute_capability, card.multiprocessors) == ((8, 9), 128)
    assert (card.l2_bytes, card.bus_width) == (75497472, 384)
    assert (card.shared_per_block, card.shared_per_block_optin) == (49152, 101376)
    assert card.shared_per_multiprocessor == 102400
    assert (card.integrated, card.ecc) == (False, True)
    assert card.memory_mib == 24320  # 24,210 to the nearest 256
    assert card.text == "NVIDIA GeForce RTX 4090 (8.9, 128 SM, 23.8 GiB)"


def test_the_drivers_release_is_told_beside_its_cuda(tmp_path: Path) -> None:
    load = _driver(tmp_path)
    jetson = tmp_path / "etc" / "nv_tegra_release"
    jetson.parent.mkdir()
    jetson.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
    assert read_driver(load=load, root=tmp_path).text == "L4T 36.4.3, CUDA 12.6"
    module = tmp_path / "sys" / "module" / "nvidia" / "version"
    module.parent.mkdir(parents=True)
    module.write_text("560.35.05\n")
    assert read_driver(load=load, root=tmp_path).text == "560.35.05, CUDA 12.6"
    with pytest.raises(DeviceError, match=r"driver \(560\.35\.05, CUDA 12\.6\) cannot be initialised"):
        read_driver(load=_driver(tmp_path, "cuInit"), root=tmp_path)


REMEDIES = r"install NVIDIA's driver \(PC: .*nvidia-driver; Jetson: JetPack\); .*--gpus all; or set eng"


def test_without_a_driver_one_is_asked_for() -> None:
    def load(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    with pytest.raises(
        DeviceError, match=rf"^libcuda.so.1: no NVIDIA driver here \(libcuda.*file\); {REMEDIES}"
    ):
        read_driver(load=load)
    with pytest.raises(DeviceError, match=rf"^libcuda.so.1 is no NVIDIA driver .*cuInit.*; {REMEDIES}"):
        read_driver(load=lambda _: ctypes.CDLL("libm.so.6"))


@pytest.mark.parametrize(
    ("fails", "code", "message"),
    [
        (
            "cuInit",
            100,
            r"cannot be .*: cuInit returned 100 \(CUDA_ERROR_NO_DEVICE\); see that nvid",
        ),
        ("cuInit", 34, rf"cuInit returned 34 \(CUDA_ERROR_STUB_LIBRARY\); .* stub, .*: {REMEDIES}"),
        ("cuInit", 5, r"cuInit returned 5 \(CUDA_ERROR_OF_THE_TEST\); see the kernel's log"),
        ("cuInit", 6, r"cuInit returned 6; see the kernel's log"),
        ("cuDriverGetVersion", 999, r"does not answer: cuDriverGetVersion returned 999 .*; load the"),
        ("cuDeviceGetAttribute", 5, r"does not answer: cuDeviceGetAttribute returned 5 "),
    ],
)
def test_a_driver_that_fails_is_told_with_its_code(
    tmp_path: Path, fails: str, code: int, message: str
) -> None:
    with pytest.raises(DeviceError, match=message):
        read_driver(load=_driver(tmp_path, fails, code), root=tmp_path)


@pytest.mark.parametrize("ordinal", [1, -1])
def test_a_card_that_is_not_there_is_refused(tmp_path: Path, ordinal: int) -> None:
    with pytest.raises(DeviceError, match=rf"has 1 card, none at place {ordinal} .*first is 0.*nvidia-"):
        read_driver(ordinal, _driver(tmp_path))


@pytest.mark.parametrize("missing", ["pycuda", "cuda"])
def test_missing_packages_are_told(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in ("pycuda", "pycuda.driver", "cuda", "cuda.bindings"):
        there = types.ModuleType(name) if name.split(".")[0] != missing else None
        monkeypatch.setitem(sys.modules, name, there)
    libraries.cache_clear()
    with pytest.raises(
        DeviceError, match=rf"cannot be loaded .*{missing}.*; install edge_ad\[build,cuda\] from"
    ):
        libraries()


def test_importing_the_engine_loads_no_library_for_a_gpu() -> None:
    rooms = ("cuda", "gaussian/cuda")
    paths = [path for room in rooms for path in (PACKAGE / room).glob("*.py")]
    paths += (PACKAGE / "backbone").glob("gpu*.py")
    assert len(paths) > 10
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths]
    code = (
        f"import importlib, sys; [importlib.import_module(name) for name in {names}];"
        "print(sorted({m.split('.')[0] for m in sys.modules}"
        " & {'pycuda', 'cuda', 'torch', 'tensorrt', 'openvino', 'cv2', 'onnx', 'scipy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
