"""Parts that did not pass, made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_ad.config import Evidence
from edge_ad.delivery.outcome import Outcome
from edge_ad.frame import Frame, Image
from edge_ad.verdict import Decision, Finding, Reason, Verdict, fault

PATIENCE_S = 60.0  # for a writer to close: an entry is three syncs, on a loaded disk 0.1 s each

REJECT = Verdict(
    Decision.REJECT, Reason.SCORE, 3.0, 2.0, "top", np.ones((1, 2), np.float32), box=(0, 0, 8, 6),
    findings=(Finding("seal", "top", 4.0, 3.0, 16.0, None, 1.5),),
)  # fmt: skip
PASS = Verdict(Decision.PASS, Reason.NONE, 1.0, 2.0, "top")


def settings(**options: Any) -> Evidence:
    """Settings under which a nearly full disk of the machine that runs the tests changes nothing."""
    return Evidence(**{"min_free": 0.0, **options})


def picture(seed: int, colour: bool = False) -> Image:
    shape = (24, 32, 3) if colour else (24, 32)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def frames(*images: Image | None, cameras: Sequence[str] = ("top", "side")) -> list[Frame | None]:
    return [
        None if image is None else Frame(camera, 0, image, 1, 2)
        for camera, image in zip(cameras, images, strict=False)
    ]


def outcome(
    verdict: Verdict | Reason = REJECT, key: str = "P1", product: str = "disc", seq: int = 1
) -> Outcome:
    if isinstance(verdict, Reason):
        verdict = fault(verdict)
    wall_ns = 1_700_000_000_000_000_000
    return Outcome(
        seq, key, 1_000, wall_ns, 2_000, verdict, product, "ab" * 32, 1, (0, 0, 0, 0, 0), ("top",)
    )
