"""A station with a tiny backbone, and small grey pictures: good parts of a made-up product."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tiny_backbone import write_tiny_backbone

from edge_ad.bundle import current_path
from edge_ad.config import Station, load_station

ENTRY = [sys.executable, "-c", "from edge_ad.cli.main import main; main()"]


def part_image(number: int, size: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    """A bright disc on a gradient, a little different each time."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[: size[0], : size[1]]
    image = 60 + 60 * x / size[1] + rng.normal(0, 6, size)
    image[(x - 32 - rng.normal(0, 1.5)) ** 2 + (y - 24 - rng.normal(0, 1.5)) ** 2 < 150] += 70
    return np.clip(image * rng.normal(1, 0.05), 0, 255).astype(np.uint8)


def write_parts(directory: Path, count: int, first: int = 0) -> list[Path]:
    """Good parts as PNG files."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"part{number:04d}.png" for number in range(first, first + count)]
    for number, path in enumerate(paths, first):
        assert cv2.imwrite(str(path), part_image(number))
    return paths


def write_station(
    directory: Path, uri: str = "", extra: str = "", calibration: str = "min_parts = 20"
) -> Station:
    """line.toml with one camera on `uri` (default: the folder `line`), and its backbone;
    evidence is kept on a nearly full disk too."""
    if not (directory / "net").is_dir():
        write_tiny_backbone(directory / "net")
    (directory / "line.toml").write_text(
        f"""schema = 1
station = "line1"
product = "disc"
[[camera]]
name = "top"
uri = "{uri or f"folder://{directory / 'line'}"}"
{extra}
[engine]
backbone = "net"
threads = 1
[calibration]
{calibration}
[scores]
endpoint = "tcp://127.0.0.1:0"
[metrics]
port = 0
[evidence]
min_free = 0.0
"""
    )
    return load_station(directory / "line.toml")


def active_bundle(station: Station) -> Path:
    """The directory of the bundle in use."""
    path = current_path(station.state_path, station.product)
    assert path is not None
    return path


def edge_ad(*arguments: Any, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the command line as a person would."""
    return subprocess.run(
        [*ENTRY, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False
    )
