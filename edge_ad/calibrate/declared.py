"""Parts that the daemon did not pass and a person declares good, from the evidence to the kept set.

They are fitted like every other part, and flagged: picked because they were rejected, they are no random
sample of the line, so no scale, quantile or promise may rest on them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from edge_ad.bundle import CameraRule
from edge_ad.calibrate.job import Candidate
from edge_ad.calibrate.plan import pixel_rule_name
from edge_ad.config import Station
from edge_ad.errors import ConfigError
from edge_ad.evidence.entry import Entry, find_entries, read_entries


def declared_parts(
    station: Station, ids: Sequence[str], rules: Mapping[str, CameraRule]
) -> list[Candidate]:
    """The entries `ids` of the station's product. rules: what the kept parts' frames look like.

    Raises ConfigError for an id that names none or several, and for an entry of other cameras, pixel
    rules or frame sizes than the station's.
    """
    product = station.product
    entries, _ = read_entries(station.state_path, product)
    command = f"edge-ad evidence list -c {station.path or 'line.toml'} --product {product}"
    chosen = find_entries(entries, ids, command)
    wanted = {camera.name: pixel_rule_name(station, camera) for camera in station.pictures}
    for entry in chosen:
        _check(entry, station, wanted, rules)
    return [
        Candidate(
            f"evidence {entry.number} {entry.key}",
            {
                name: os.fsencode(entry.path / picture.file)
                for name, picture in entry.record.pictures.items()
            },
            stored=True,
            declared=True,
        )
        for entry in chosen
    ]


def _check(
    entry: Entry, station: Station, wanted: Mapping[str, str], rules: Mapping[str, CameraRule]
) -> None:
    """Raise ConfigError unless the entry's pictures are what the station's cameras now deliver."""
    whose, where = f"--from-evidence: entry {entry.number} (part {entry.key})", station.path
    pictures = entry.record.pictures
    missing = [name for name in wanted if name not in pictures]
    if missing and set(pictures) <= set(wanted):
        raise ConfigError(
            f"{whose}: has no picture of camera {missing[0]!r} ({entry.verdict}), a part needs one of "
            f"each of {list(wanted)}; leave it out"
        )
    if sorted(pictures) != sorted(wanted):
        raise ConfigError(
            f"{whose}: is of cameras {sorted(pictures)}, {where} has {sorted(wanted)}; leave it out"
        )
    for name, picture in pictures.items():
        if picture.pixel_rule != wanted[name]:
            raise ConfigError(
                f"{whose}: its frame of camera {name!r} was made with pixel rule "
                f"{picture.pixel_rule!r}, {where} asks for {wanted[name]!r}; leave it out"
            )
        rule = rules[name]
        height, width, channels = picture.shape
        found, kept = f"{channels} channel(s)", f"{rule.channels}"
        differs = channels != rule.channels
        if rule.frame_size == "fixed":
            found = f"{width} x {height} px of {found}"
            kept = f"{rule.width} x {rule.height} px of {kept}"
            differs = differs or (height, width) != (rule.height, rule.width)
        if differs:
            raise ConfigError(
                f"{whose}: its frame of camera {name!r} has {found}, the kept parts have {kept}; leave "
                "it out"
            )
