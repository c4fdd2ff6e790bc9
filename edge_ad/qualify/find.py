"""Which pictures belong to which kind of defect, or to which repeated part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_ad.bundle.qualification import LeftOut
from edge_ad.calibrate.collect import find_parts
from edge_ad.calibrate.job import Candidate
from edge_ad.capture.images import printable
from edge_ad.errors import CaptureError

Groups = dict[str, list[Candidate]]

GOOD = "good"  # the folder of good parts in data sets of MVTec's layout


def find_groups(directory: Path, cameras: Sequence[str], ungrouped: str) -> tuple[Groups, list[LeftOut]]:
    """The parts below `directory` by the name of their folder, and what is left out.

    With one camera: DIR/GROUP/*, and DIR/* is `ungrouped`. With several: each group is laid out as
    `calibrate --from` takes it, DIR/GROUP/CAMERA/*, or all of DIR is, DIR/CAMERA/GROUP/*. Raises
    CaptureError when there is no directory, or no part in it.
    """
    groups: Groups = {}
    left_out: list[LeftOut] = []
    for prefix, place in _places(directory, cameras):
        parts, incomplete = find_parts(place, cameras)
        for part in parts:
            source = f"{prefix}{part.source}"
            group = source.partition("/")[0] if "/" in source else ungrouped
            groups.setdefault(group, []).append(msgspec.structs.replace(part, source=source))
        left_out += [
            LeftOut(source=prefix + name, why="incomplete", detail="not there for every camera")
            for name in incomplete
        ]
    return groups, left_out


def leave_good_out(groups: Groups, directory: Path) -> tuple[Groups, list[LeftOut]]:
    """Known-bad parts without a folder that is named after good ones."""
    bad = {name: parts for name, parts in groups.items() if name.lower() != GOOD}
    if not bad:
        raise CaptureError(
            f"{printable(directory)}: has no pictures but in a folder of good parts; give known-bad ones"
        )
    text = "by its folder's name a good part; rename the folder if it is a kind of defect"
    return bad, [
        LeftOut(source=part.source, why="good", detail=text)
        for name in groups.keys() - bad.keys()
        for part in groups[name]
    ]


def empty_folders(directory: Path, groups: Groups, cameras: Sequence[str]) -> list[str]:
    """Folders right below `directory` without a part: kinds that somebody meant to measure."""
    names = {printable(Path(p.name)) for p in directory.iterdir() if p.is_dir()}
    return sorted(names - groups.keys() - set(cameras))


def _places(directory: Path, cameras: Sequence[str]) -> list[tuple[str, Path]]:
    """Where parts lie as `find_parts` expects them, and what goes before their names."""
    if len(cameras) == 1 or all((directory / camera).is_dir() for camera in cameras):
        return [("", directory)]
    if not directory.is_dir():
        raise CaptureError(f"{printable(directory)}: no such directory; give a folder of images")
    places = [
        (printable(Path(path.name)) + "/", path)
        for path in sorted(directory.iterdir())
        if all((path / camera).is_dir() for camera in cameras)
    ]
    if not places:
        raise CaptureError(
            f"{printable(directory)}: holds no folder with one folder per camera, {list(cameras)}; lay "
            "each kind out as 'edge-ad calibrate --from' takes parts"
        )
    return places
