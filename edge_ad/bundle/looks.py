"""What the good parts were like, for the monitor: see `monitor.looks` and `monitor.levels`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from edge_ad.config import Roi

MOST = 1000  # values of one statistic


class GoodLooks(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One camera's: the values of each statistic in order; `patch`: what `grey` is of, null for the
    whole frame."""

    patch: Roi | None
    grey: list[float]
    focus: list[float]
    x: list[float]
    y: list[float]


def check_good(values: Sequence[float], whose: str, refuse: Callable[[str], None]) -> None:
    """Values that are not in order would put every part beyond them."""
    sound = all(map(math.isfinite, values)) and list(values) == sorted(values)
    if not sound or len(values) > MOST:
        refuse(f"{whose} are not at most {MOST} finite numbers in order")


def check_distances(
    distances: Mapping[str, Sequence[float]],
    levels: list[str],
    whose: str,
    refuse: Callable[[str], None],
) -> None:
    """All levels or none: a bundle of an earlier version has none."""
    if distances and list(distances) != levels:
        refuse(f"{whose}: good parts' distances at the levels {list(distances)}, it has {levels}")
    for level, values in distances.items():
        check_good(values, f"{whose}: the good parts' distances at level {level!r}", refuse)
        if not values:
            refuse(f"{whose}: no good part's distance at level {level!r}")


def check_looks(
    looks: GoodLooks, width: int, height: int, camera: str, refuse: Callable[[str], None]
) -> None:
    """What a camera's frames are compared with."""
    for name in ("grey", "focus", "x", "y"):
        values = getattr(looks, name)
        check_good(values, f"camera {camera!r}: the good parts' {name}", refuse)
        if not values:
            refuse(f"camera {camera!r}: no good part's {name}")
    if looks.patch is not None and not patch_fits(looks.patch, width, height):
        refuse(f"camera {camera!r}: the patch {list(looks.patch)} is not in its frames")


def patch_fits(patch: Roi, width: int, height: int) -> bool:
    """Whether it is inside of such a frame."""
    return patch[0] + patch[2] <= width and patch[1] + patch[3] <= height
