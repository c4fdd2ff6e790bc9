"""What judges parts, and what a verdict says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edge_ad.backbone.engine import EngineIdentity
from edge_ad.bundle import Bundle
from edge_ad.daemon.cameras import CameraFeed
from edge_ad.frame import Image
from edge_ad.report.heat import PartDrawer, part_drawer
from edge_ad.verdict import Verdict


class PartInspector(Protocol):
    """What the loop needs of an `Inspector`; a wrapper with these may stand in for it."""

    @property
    def bundle(self) -> Bundle:
        """What it judges by."""
        ...

    @property
    def identity(self) -> EngineIdentity:
        """What scores."""
        ...

    @property
    def stands_in_for(self) -> str:
        """The engine that failed, where this one has its place; else empty."""
        ...

    @property
    def cameras(self) -> Sequence[str]:
        """Order of a part's images."""
        ...

    @property
    def stamps(self) -> Sequence[int]:
        """Times of the last part, ns: start, located, preprocessed, scored, judged."""
        ...

    def inspect_part(self, images: Sequence[Image]) -> Verdict:
        """Judge one image per camera."""
        ...

    def warm_up(self) -> None:
        """Make the first part as quick as the others."""
        ...

    def close(self) -> None:
        """Release the engine."""
        ...


class Active:
    """What parts are judged by, swapped as one: the inspector (None without a bundle), the product.
    `known`: the station has such a product; `since_ns`: parts triggered earlier are another's; `order`:
    of the announcement of a product that it follows, see `InspectionLoop.announced`; `why`: its bundle
    could not be loaded, which is tried again."""

    def __init__(
        self,
        inspector: PartInspector | None,
        product: str,
        feeds: Sequence[CameraFeed],
        known: bool = True,
        since_ns: int = 0,
        order: int = 0,
        why: str = "",
    ) -> None:
        self.why = why
        self.inspector = inspector
        self.product = product
        self.known = known
        self.since_ns = since_ns
        self.order = order
        self.bundle = ""
        self.engine = ""
        self.degraded = False
        self.cameras: tuple[str, ...] = ()  # of the bundle
        self.drawer: PartDrawer | None = None  # of parts that have maps
        self.views: list[tuple[int, CameraFeed, str]] = []  # place in Part.frames, feed, pixel rule
        if inspector is not None:
            places = [(picture, feed) for feed in feeds for picture in feed.pictures]
            where = {picture: (place, feed) for place, (picture, feed) in enumerate(places)}
            manifest = inspector.bundle.manifest
            rules = manifest.preprocess.cameras
            self.bundle = inspector.bundle.sha256
            self.engine = inspector.identity.key
            self.degraded = bool(inspector.stands_in_for)
            self.cameras = tuple(inspector.cameras)
            self.drawer = part_drawer(manifest)
            self.views = [(*where[c], rules[c].pixel_rule) for c in inspector.cameras]

    @property
    def judge(self) -> tuple[str, str, str]:
        """Product, bundle and engine: what is proved of one of these is not of another."""
        return self.product, self.bundle, self.engine
