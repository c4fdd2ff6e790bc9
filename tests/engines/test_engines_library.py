"""Which library is taken, and what is said where there is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from published import Published

from edge_ad.backbone.tensorrt.library import Library, open_library
from edge_ad.errors import DeviceError


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
