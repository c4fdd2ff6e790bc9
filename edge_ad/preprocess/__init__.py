"""Frames -> network inputs: views, tiles, resize. The only implementation, for calibration and
inspection alike; the resize rule's name and the views are stored in the bundle.
"""

from __future__ import annotations

from edge_ad.preprocess.resize import RULE, Preprocessor, Roi, halve
from edge_ad.preprocess.tiles import Stitch, pixels_per_input, tile_boxes, tile_names
from edge_ad.preprocess.views import PartInput, ViewInput

__all__ = [
    "RULE",
    "PartInput",
    "Preprocessor",
    "Roi",
    "Stitch",
    "ViewInput",
    "halve",
    "pixels_per_input",
    "tile_boxes",
    "tile_names",
]
