"""The products that are not being made now: loaded, so that one is changed to between two parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_ad.config import Station, with_product
from edge_ad.daemon.active import Active
from edge_ad.daemon.cameras import CameraFeed
from edge_ad.daemon.loading import Build


class Stock:
    """Owns the inspectors in it. Used by one thread at a time."""

    def __init__(
        self, build: Build, feeds: Sequence[CameraFeed], tell: Callable[[str, str], None]
    ) -> None:
        self._build = build
        self._feeds = feeds
        self._tell = tell
        self._ready: dict[str, Active] = {}

    def fill(self, station: Station, made: str, stopping: Callable[[], bool]) -> None:
        """Load all but the product that is made; one that cannot be is told of."""
        for product in station.known_products:
            if product in self._ready or product == made or stopping():
                continue
            try:
                inspector = self._build(with_product(station, product))
                self._ready[product] = Active(inspector, product, self._feeds)
            except Exception as error:  # noqa: BLE001 - said now, and again when it is announced
                self._tell("error", f"product {product} cannot be loaded: {error}")

    def take(self, station: Station, product: str) -> Active:
        """What judges a product's parts, built now if it is not there."""
        known = product in station.known_products
        try:
            active = self._ready.pop(product, None)
            if active is None:
                inspector = self._build(with_product(station, product)) if known else None
                active = Active(inspector, product, self._feeds, known)
        except Exception as error:  # noqa: BLE001 - its parts are FAULT, which is said
            # What is being made has no bundle that can be used: nothing may pass by the old one.
            active = Active(None, product, self._feeds, why=str(error) or repr(error))
            self._tell("error", f"product {product}: {error}; its parts are FAULT uncalibrated")
        return active

    def put(self, active: Active) -> None:
        """Keep what judges a product that is not made any more; nothing of one that is not known, or
        could not be loaded."""
        if active.known and not active.why:
            self._ready[active.product] = active

    def clear(self) -> None:
        """Close all of it."""
        while self._ready:
            _, active = self._ready.popitem()
            if active.inspector is not None:
                active.inspector.close()
