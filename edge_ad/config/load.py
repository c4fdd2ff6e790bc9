"""From a TOML file to a checked `Station`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edge_ad.config.checks import check_references
from edge_ad.config.local import parse_file, read_toml
from edge_ad.config.structs import Rate, Screen, Station
from edge_ad.errors import ConfigError


def load_station(path: str | Path) -> Station:
    """Read and check a station file. Raises ConfigError that names file, key, value and bound."""
    return parse_station(read_toml(Path(path), "station file", "edge-ad init"), str(path))


def parse_station(data: dict[str, Any], path: str = "") -> Station:
    """Check an already parsed file. `path` is used in messages and to resolve relative paths."""
    station = parse_file(data, Station, path)
    check_references(station, station.where)
    return station


def with_false_reject_rate(station: Station, rate: float) -> Station:
    """The station with another target for false rejects. Raises ConfigError when it is out of bounds."""
    try:
        msgspec.convert(rate, Rate)
    except msgspec.ValidationError as error:
        raise ConfigError(f"false_reject_rate: {error} (found {rate!r})") from error
    settings = msgspec.structs.replace(station.calibration, false_reject_rate=rate)
    return msgspec.structs.replace(station, calibration=settings)


def with_product(station: Station, product: str) -> Station:
    """The station making another of its products. Raises ConfigError for one that it does not know."""
    if product not in station.known_products:
        raise ConfigError(
            f"{station.path or 'configuration'}: product {product!r} is not among its products "
            f"{list(station.known_products)}; add it to the key products"
        )
    return msgspec.structs.replace(
        station, product=product, products=tuple(p for p in station.known_products if p != product)
    )


def with_screen(station: Station, screen: Screen) -> Station:
    """The station with another way to treat parts that are separated from the rest."""
    settings = msgspec.structs.replace(station.calibration, screen=screen)
    return msgspec.structs.replace(station, calibration=settings)
