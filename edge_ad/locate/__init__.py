"""Where the part lies: its pose against a reference part, and the frame with the part laid where it lay
there.

Gaussians of positions need the part where it was at calibration. A coarse search over turned templates
finds it within bounds (`coarse`), least squares on a few thousand points place it to a fraction of a
pixel (`refine`), and a part that is not there, or lies otherwise, is named (`locator`).
"""

from __future__ import annotations

from edge_ad.locate.locator import Locator
from edge_ad.locate.part import CameraLocator, Follower, PartLocator, Straight
from edge_ad.locate.pose import Failure, Located, Pose, Settings

__all__ = [
    "CameraLocator",
    "Failure",
    "Follower",
    "Located",
    "Locator",
    "PartLocator",
    "Pose",
    "Settings",
    "Straight",
]
