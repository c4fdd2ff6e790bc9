"""From a TOML file to a checked `Station`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import msgspec

from edge_ad.config.checks import check_references
from edge_ad.config.structs import Rate, Screen, Station
from edge_ad.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def load_station(path: str | Path) -> Station:
    """Read and check a station file. Raises ConfigError that names file, key, value and bound."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot read the station file ({error}); 'edge-ad init' writes one"
        ) from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    return parse_station(data, str(path))


def parse_station(data: dict[str, Any], path: str = "") -> Station:
    """Check an already parsed file. `path` is used in messages and to resolve relative paths."""
    where = path or "configuration"
    if "path" in data:
        raise ConfigError(f"{where}: unknown key 'path'")
    try:
        station = msgspec.convert(data, Station, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error, data)}") from error
    check_references(station, where)
    return msgspec.structs.replace(station, path=path)


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


def _explain(error: msgspec.ValidationError, data: dict[str, Any]) -> str:
    """msgspec's message with the key in TOML's notation and the value that was found there."""
    message, _, location = str(error).partition(" - at `$")
    steps = re.findall(r"\.([^.\[`]+)|\[(\d+)\]", location)
    value: Any = data
    for key, index in steps:
        try:
            value = value[int(index)] if index else value[key]
        except (KeyError, IndexError, TypeError):
            break
    key = location.rstrip("`").lstrip(".") or "the file"
    found = "" if isinstance(value, (dict, list)) else f" (found {value!r})"
    return f"{key}: {message}{found}"
