"""Exported networks, the builder that needs no card, and the classes of releases; each made once."""

from __future__ import annotations

import sys

import pytest
from networks import GetBackbone, GetConverted, pictures
from published import BINDINGS, LEFT_OUT, RELEASES, GetRelease, Published, describe, write_stubs

from edge_ad.backbone.spec import Backbone, load_backbone
from edge_ad.backbone.tensorrt.library import Library, open_library
from edge_ad.backbone.tensorrt.make import Converted, Request, convert
from edge_ad.config.structs import EMBEDDED_BACKBONE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not looked at: that is no skipped test, which would fail under CI."""
    for version in LEFT_OUT:
        terminalreporter.section("left out", sep="-", yellow=True)
        terminalreporter.line(
            f"TensorRT {version}: no call was compared with its classes, as there is no wheel of it for "
            f"Python {sys.version_info[0]}.{sys.version_info[1]}; run the tests with Python 3.10 to 3.12"
        )


@pytest.fixture(scope="session")
def get_backbone(tmp_path_factory: pytest.TempPathFactory) -> GetBackbone:
    """A network by name: the one of the package, or timm's with random weights, each for pictures of
    its own size."""
    kept: dict[str, Backbone] = {"embedded": load_backbone(EMBEDDED_BACKBONE)}

    def get(name: str) -> Backbone:
        if name not in kept:
            from edge_ad.backbone.export import export_backbone
            from edge_ad.backbone.weights import Given

            directory = tmp_path_factory.mktemp(name) / "net"
            kept[name] = export_backbone(name, directory, Given(), seed=0).backbone
        return kept[name]

    return get


@pytest.fixture(scope="session")
def get_converted(get_backbone: GetBackbone) -> GetConverted:
    """A network's graph in a precision, at batch 1 with 48 features per position."""
    kept: dict[tuple[str, str], Converted] = {}

    def get(name: str, precision: str) -> Converted:
        if (name, precision) not in kept:
            backbone = get_backbone(name)
            frames = pictures(backbone, 1)
            request = Request(backbone, precision, 1, 48, frames)  # type: ignore[arg-type]
            kept[name, precision] = convert(request)
        return kept[name, precision]

    return get


@pytest.fixture(scope="session")
def rtx() -> Library:
    """TensorRT-RTX."""
    return open_library("tensorrt-rtx")


@pytest.fixture(scope="session")
def lean() -> Published:
    """The classes of TensorRT 11's runtime."""
    return describe("tensorrt_lean_bindings")


@pytest.fixture(scope="session")
def get_release(tmp_path_factory: pytest.TempPathFactory) -> GetRelease:
    """All classes of a release of TensorRT, out of its own bindings."""
    kept: dict[str, Published] = {}
    stubs = tmp_path_factory.mktemp("stubs")
    write_stubs(stubs)

    def get(version: str) -> Published:
        if version not in kept:
            bindings = BINDINGS / version
            if not bindings.is_dir():
                pytest.skip(f"{bindings} is not there: .ci/run puts tensorrt-cu12-bindings into it")
            kept[version] = describe("tensorrt_bindings", str(bindings), str(stubs))
        return kept[version]

    return get


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest, get_release: GetRelease) -> Published:
    """The classes of each release in turn."""
    return get_release(request.param)
