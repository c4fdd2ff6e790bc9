"""The station's TOML file: its structs, with every default, bound and unit (`structs`), what its keys
say of each other (`checks`), and how it is read (`load`)."""

from __future__ import annotations

from edge_ad.config.challenge import Challenge
from edge_ad.config.delivery import Control, Curve, MetricsEndpoint, Present, Scores, Trigger, Verdicts
from edge_ad.config.load import (
    load_station,
    parse_station,
    with_false_reject_rate,
    with_product,
    with_screen,
)
from edge_ad.config.monitor import Monitor
from edge_ad.config.structs import (
    EMBEDDED_BACKBONE,
    LABEL_IMAGES,
    MAX_MEGAPIXELS,
    MOST_CORNERS,
    MOST_SIDE,
    PAPER,
    Calibration,
    Camera,
    Engine,
    EngineKind,
    Evidence,
    Locate,
    PixelFormat,
    Precision,
    Profile,
    Rate,
    Roi,
    Screen,
    Station,
    View,
    Zone,
)

__all__ = [
    "EMBEDDED_BACKBONE",
    "LABEL_IMAGES",
    "MAX_MEGAPIXELS",
    "MOST_CORNERS",
    "MOST_SIDE",
    "PAPER",
    "Calibration",
    "Camera",
    "Challenge",
    "Control",
    "Curve",
    "Engine",
    "EngineKind",
    "Evidence",
    "Locate",
    "MetricsEndpoint",
    "Monitor",
    "PixelFormat",
    "Precision",
    "Present",
    "Profile",
    "Rate",
    "Roi",
    "Scores",
    "Screen",
    "Station",
    "Trigger",
    "Verdicts",
    "View",
    "Zone",
    "load_station",
    "parse_station",
    "with_false_reject_rate",
    "with_product",
    "with_screen",
]
