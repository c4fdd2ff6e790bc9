"""Building a TensorRT engine for this machine's card, and looking at its numbers at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_ad.backbone.tensorrt.cache import read_plan
from edge_ad.backbone.tensorrt.library import open_library
from edge_ad.backbone.tensorrt.make import Made, Request, make_engine
from edge_ad.cuda.device import Device
from edge_ad.cuda.driver import read_driver
from edge_ad.engines.tensorrt import check_entry


def build_engine(
    request: Request, cache: Path, ordinal: int = 0, say: Callable[[str], None] = lambda _: None
) -> tuple[Made, float]:
    """Build what is asked for, keep it in the cache and compare its features with OpenVINO's.

    Returns it and its largest error, in standard deviations of a feature. Raises DeviceError without a
    driver, TensorRT or room, ArtifactError where TensorRT does not take the graph or the features are
    off, ConfigError for what cannot be asked for.
    """
    # Asked first: without a driver TensorRT's runtime ends the process.
    driver = read_driver(ordinal)
    library = open_library("tensorrt")
    made = make_engine(request, library, driver.device, driver.text, cache, say=say)
    assert made.entry is not None
    say("comparing its features with OpenVINO's")
    with Device(ordinal) as device:
        plan = read_plan(made.entry)
        return made, check_entry(made.entry, library, plan, request.backbone, device)
