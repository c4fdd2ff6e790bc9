"""What a PC without a driver, or without the packages for it, is told; nothing is loaded before that."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

from edge_ad.cuda.driver import find_driver, version_text
from edge_ad.cuda.failure import libraries
from edge_ad.errors import DeviceError

PACKAGE = Path(__file__).resolve().parents[2] / "edge_ad"


def test_no_driver_is_told() -> None:
    with pytest.raises(DeviceError, match=r"no NVIDIA driver .*libcuda-nowhere.*; install NVIDIA"):
        find_driver("libcuda-nowhere.so.1")
    with pytest.raises(DeviceError, match=r"libm\.so\.6 is no NVIDIA driver .*cuInit.*; install NVI"):
        find_driver("libm.so.6")
    assert version_text(12060) == "12.6"


@pytest.mark.parametrize("missing", ["pycuda", "cuda"])
def test_missing_packages_are_told(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in ("pycuda", "pycuda.driver", "cuda", "cuda.bindings"):
        there = types.ModuleType(name) if name.split(".")[0] != missing else None
        monkeypatch.setitem(sys.modules, name, there)
    libraries.cache_clear()
    with pytest.raises(
        DeviceError, match=rf"cannot be loaded .*{missing}.*; install edge_ad\[cuda\] from"
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
