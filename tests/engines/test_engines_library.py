"""Which library is taken, and what is said where there is none or no driver."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from published import Published

from edge_ad.backbone.tensorrt.driver import read_driver
from edge_ad.backbone.tensorrt.library import Library, open_library
from edge_ad.errors import DeviceError

# A driver of one card, an RTX 4090's numbers; FAIL is the function that returns an error.
DRIVER = r"""
#include <cstring>
#include <cstddef>
static int code(const char *name) { return std::strcmp(name, FAIL) ? 0 : 100; }
extern "C" {
int cuInit(unsigned) { return code("cuInit"); }
int cuDriverGetVersion(int *v) { *v = 12060; return code("cuDriverGetVersion"); }
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
    default: return 1;
    }
    return d - 7;
}
}
"""


def _driver(directory: Path, fails: str = "none") -> Any:
    """What `read_driver` loads in place of the driver."""
    source = directory / "cuda.cpp"
    source.write_text(DRIVER)
    target = directory / "libcuda.so.1"
    define = f'-DFAIL="{fails}"'
    subprocess.run(["g++", "-shared", "-fPIC", define, "-o", target, source], check=True)
    return lambda name: ctypes.CDLL(str(directory / name))


def test_a_card_is_read_through_the_drivers_own_functions(tmp_path: Path) -> None:
    driver = read_driver(load=_driver(tmp_path), root=tmp_path)
    assert driver.version == "CUDA 12.6"
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
    assert read_driver(load=load, root=tmp_path).version == "L4T 36.4.3, CUDA 12.6"
    module = tmp_path / "sys" / "module" / "nvidia" / "version"
    module.parent.mkdir(parents=True)
    module.write_text("560.35.05\n")
    assert read_driver(load=load, root=tmp_path).version == "560.35.05, CUDA 12.6"


def test_without_a_driver_one_is_asked_for() -> None:
    def load(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    with pytest.raises(DeviceError, match=r"libcuda.so.1: no NVIDIA driver here .*JetPack.*--gpus all"):
        read_driver(load=load)


def test_a_driver_that_does_not_start_is_named_with_its_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"cuInit returned CUDA error 100; install"):
        read_driver(load=_driver(tmp_path, "cuInit"))


def test_a_card_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"has 1 cards, none at place 1"):
        read_driver(1, _driver(tmp_path))


def _importer(**versions: str) -> Any:
    def load(name: str) -> Any:
        if name not in versions:
            raise ImportError(f"No module named {name!r}")
        return SimpleNamespace(__version__=versions[name])

    return load


def test_the_whole_package_comes_before_the_bindings() -> None:
    both = _importer(tensorrt="10.13.3.9", tensorrt_bindings="10.9.0")
    assert open_library(importer=both).version == "10.13.3.9"
    assert open_library(importer=_importer(tensorrt_bindings="10.9.0")).version == "10.9.0"


def test_a_missing_library_is_asked_for_by_both_machines_names() -> None:
    with pytest.raises(
        DeviceError, match=r"tensorrt 10.0 or later is needed, none is installed here .*"
        r"apt install python3-libnvinfer.*pip install tensorrt-cu12 or tensorrt-cu13"
    ):  # fmt: skip
        open_library(importer=_importer())
    with pytest.raises(DeviceError, match=r"pip install tensorrt-rtx-cu13-bindings"):
        open_library("tensorrt-rtx", _importer(tensorrt="10.9.0"))


def test_a_library_that_cannot_be_loaded_is_told_with_the_reason() -> None:
    def load(name: str) -> Any:
        raise OSError("libnvinfer.so.10: cannot open shared object file")

    with pytest.raises(DeviceError, match=r"libnvinfer.so.10: cannot open"):
        open_library(importer=load)


@pytest.mark.parametrize("version", ["8.6.2.3", "12.0.1", "of no version"])
def test_another_version_is_refused_with_both(version: str) -> None:
    with pytest.raises(
        DeviceError, match=rf"tensorrt 10.0 to 11.x is supported, {version} is installed"
    ):
        open_library(importer=_importer(tensorrt=version))


def test_what_each_version_can_do() -> None:
    table = {"10.3.0": True, "10.3.0.26": True, "10.4.0": False, "10.13.3.9": False, "11.4.0.106": False}
    for version, weak in table.items():
        library = open_library(importer=_importer(tensorrt=version))
        assert library.weak_fp16 is weak, version
        assert library.needs_device
        assert library.timing_cache
    rtx = open_library("tensorrt-rtx", _importer(tensorrt_rtx="1.7.1.116"))
    assert not (rtx.weak_fp16 or rtx.needs_device or rtx.timing_cache)


def test_strong_typing_is_the_releases_own_bit(release: Published) -> None:
    flags = release.enum("NetworkDefinitionCreationFlag")
    module = SimpleNamespace(NetworkDefinitionCreationFlag=flags)
    library = Library("tensorrt", module, release.version)
    assert (
        library.strongly_typed == 1 << release.values["NetworkDefinitionCreationFlag"]["STRONGLY_TYPED"]
    )
    # The weak flag is there where it is offered, and nowhere where it would have to be.
    assert ("FP16" in release.values["BuilderFlag"]) or not library.weak_fp16


def test_a_version_that_knows_no_weak_typing_needs_no_bit() -> None:
    module = SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace())
    assert Library("tensorrt", module, "11.9.0").strongly_typed == 0
