"""What comes of it: counts per kind and size, and the size that is found."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.bundle.describe import percent_down
from edge_ad.capture.insertion import LENGTH, LONGEST, MEANS
from edge_ad.qualify.statistics import lower_bound

TARGET = 0.95  # the detection rate at which a size counts as found


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """One size (camera pixels), tried; a FAULT is no detection. `confident`: exact one-sided 95 % lower
    bound of the rate."""

    size: float
    trials: int
    detected: int
    faults: int
    rate: float
    confident: float

    @property
    def enough(self) -> bool:
        """Detected in at least TARGET of the trials."""
        return self.detected >= TARGET * self.trials - 1e-9


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of defect; sizes are increasing, and the smaller ones of those asked for may be missing.

    size_is: what of the defect its size is. found: see `smallest_found`, camera pixels; null: none.
    found_network: the same in network pixels, smallest and largest over the views.
    """

    kind: str
    size_is: str
    found: float | None
    found_network: tuple[float, float] | None
    sizes: list[Size]


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A view's region in camera pixels (the smallest, where parts differ) and its scale."""

    name: str
    width: int
    height: int
    camera_px_per_network_px: float


class Unused(msgspec.Struct, frozen=True, kw_only=True):
    """A part that no defect was put into: its unaltered picture is rejected, FAULT, unreadable, or not
    there for every camera."""

    source: str
    why: str
    detail: str


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `good` parts passed unaltered and were used, once or several times."""

    bundle: str
    engine: EngineIdentity
    threshold: float
    rendered: bool = True
    target: float = TARGET
    contrast: float
    trials: int
    seed: int
    good: int
    unused: list[Unused]
    views: list[View]
    kinds: list[Kind]

    def network(self, size: float) -> tuple[float, float]:
        """A size in network pixels: smallest and largest over the views."""
        return network_size(size, self.views)

    def summary(self) -> list[tuple[str, str]]:
        """What a person reads below the table."""
        lines = [("bundle", self.bundle)]
        lines += [("found" if not i else "", _found_text(kind)) for i, kind in enumerate(self.kinds)]
        length = f"a scratch is {LENGTH} times as long, at most {LONGEST:g} of the view's shorter side"
        return [
            *lines,
            ("parts", self._parts_text()),
            ("size", ", ".join(f"{kind.size_is} of a {kind.kind}" for kind in self.kinds)),
            *[("", length) for kind in self.kinds if kind.kind == "scratch"],
            (
                "contrast",
                f"{self.contrast:g} of the view's white, which 99 % of its pixels do not exceed",
            ),
            (
                "note",
                "the defects are rendered, and spread evenly over the views; real ones are the stronger",
            ),
            ("", "evidence: 'edge-ad qualify' with known-bad parts"),
        ]

    def _parts_text(self) -> str:
        whys = [one.why for one in self.unused]
        left_out = ", ".join(f"{whys.count(why)} {why}" for why in dict.fromkeys(whys))
        first = f" (first: {self.unused[0].source}: {self.unused[0].detail})" if self.unused else ""
        return f"{self.good} good parts used" + (f"; left out: {left_out}{first}" if left_out else "")


def tried(size: float, trials: int, detected: int, faults: int) -> Size:
    """Counts with their rate and its bound."""
    return Size(
        size=size,
        trials=trials,
        detected=detected,
        faults=faults,
        rate=detected / trials,
        confident=lower_bound(detected, trials),
    )


def kind_of(kind: str, sizes: Sequence[Size], views: Sequence[View]) -> Kind:
    """A kind from its sizes, in any order; at least one."""
    ordered = sorted(sizes, key=lambda one: one.size)
    found = smallest_found(ordered)
    return Kind(
        kind=kind,
        size_is=MEANS[kind],
        found=found,
        found_network=None if found is None else network_size(found, views),
        sizes=ordered,
    )


def smallest_found(sizes: Sequence[Size]) -> float | None:
    """The smallest size that, like every larger one, is detected in at least TARGET of its trials."""
    found = None
    for one in sorted(sizes, key=lambda one: -one.size):
        if not one.enough:
            break
        found = one.size
    return found


def network_size(size: float, views: Sequence[View]) -> tuple[float, float]:
    """A size in network pixels: smallest and largest over the views."""
    scales = [view.camera_px_per_network_px for view in views]
    return size / max(scales), size / min(scales)


def span(sizes: tuple[float, float]) -> str:
    """Network pixels in words: "2.5", or "1.2 to 2.5" where views differ."""
    low, high = (f"{size:.1f}" for size in sizes)
    return low if low == high else f"{low} to {high}"


def _found_text(kind: Kind) -> str:
    if kind.found is None or kind.found_network is None:
        last = kind.sizes[-1]
        return (
            f"{kind.kind}: not found at {last.size:g} px, the largest that was tried: "
            f"{last.detected} of {last.trials} detected"
        )
    at = next(one for one in kind.sizes if one.size == kind.found)
    smallest = ", the smallest that was tried" if at is kind.sizes[0] else ""
    return (
        f"{kind.kind}: {kind.found:g} px ({span(kind.found_network)} network px){smallest}: "
        f"{percent_down(at.rate)} detected, at least {percent_down(at.confident)} with 95 % confidence"
    )
