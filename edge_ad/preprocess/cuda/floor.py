"""The least time that a part's frames need to become the network's input: bytes over memory's bandwidth.

Computed, not measured. What a GPU keeps in its cache between two launches is faster than this; each
launch takes some microseconds of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_ad.cuda.bandwidth import floor_table
from edge_ad.preprocess.cuda.cameras import CameraPixels
from edge_ad.preprocess.cuda.plan import PreprocessPlan, plan_preprocess
from edge_ad.preprocess.resize import Roi
from edge_ad.preprocess.tiles import WHOLE, Tiles


@dataclass(frozen=True, slots=True)
class WholeFrame:
    """A view of all that a camera sees."""

    tiles: Tiles = WHOLE
    overlap: int = 0
    roi: Roi | None = None
    name: str = "view"
    camera: str = "camera"


# A common camera's frame as one input; a large one's as 24 tiles; what comes before it can be resized.
CASES = (
    ("1920 x 1200 grey to 224 x 224", WholeFrame(), (1200, 1920), "mono8", False, 224),
    ("the same, located", WholeFrame(), (1200, 1920), "mono8", True, 224),
    ("1920 x 1200 YUYV to 380 x 380", WholeFrame(), (1200, 1920, 2), "yuv422_yuyv", False, 380),
    ("2448 x 2048 Bayer to 4 x 6 tiles of 256 x 256", WholeFrame((4, 6), 32), (2048, 2448), "bayerrg8",
     False, 256),
    ("the same, located", WholeFrame((4, 6), 32), (2048, 2448), "bayerrg8", True, 256),
)  # fmt: skip


def plans() -> list[tuple[str, PreprocessPlan]]:
    """The common cases by name."""
    return [
        (name, plan_preprocess([view], [CameraPixels("camera", shape, pixels, 0, located)], side, side))
        for name, view, shape, pixels, located, side in CASES
    ]


def table() -> list[str]:
    """The floor of common cases as lines of a Markdown table."""
    return floor_table(
        ("Part", "launches"),
        (((name, str(len(plan.launches))), plan.bytes_per_frame) for name, plan in plans()),
    )
