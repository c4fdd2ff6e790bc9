"""The program that compute-sanitizer looks at, on the stand-in for the driver: it runs every kernel."""

from __future__ import annotations

import every_kernel
import pytest
from fake_driver import FakeDriver

from edge_ad.cuda.device import Device
from edge_ad.cuda.sources import SOURCES
from edge_ad.cuda.stream import Kernel

pytestmark = pytest.mark.fake_driver

IMAGE = b"whatever nvcc made"


def test_every_kernel_is_run_and_gives_what_it_should(
    device: Device, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: set[str] = set()
    launch = Kernel.launch

    def noting(kernel: Kernel, *arguments: object) -> None:
        launched.add(kernel.name)
        launch(kernel, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Kernel, "launch", noting)
    assert every_kernel.distances(device, IMAGE)
    assert every_kernel.pictures(device, IMAGE)
    assert launched == {name for source in SOURCES for name in source.kernels}


def test_a_kernel_that_is_not_run_is_seen(
    device: Device, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Kernel.launch

    def but_one(kernel: Kernel, *arguments: object) -> None:
        if kernel.name != left_out:
            launch(kernel, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Kernel, "launch", but_one)
    for left_out in ("convert_pixels", "halve_regions", "resize_tiles"):
        assert not every_kernel.pictures(device, IMAGE), left_out
