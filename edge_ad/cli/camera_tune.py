"""`edge-ad camera tune`: focus and exposure in the terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from edge_ad.config import Camera, Station, load_station
from edge_ad.config.genicam import FeatureValue, Genicam
from edge_ad.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from edge_ad.capture.tune import Reading

_EACH_S = 0.1  # the display is not drawn more often


def choose(station: Station, name: str | None) -> Camera:
    """The camera of this name, or CAMERA.SHOT; None: the only one. Raises ConfigError."""
    names = [camera.name for camera in station.pictures]
    if name is None and len(names) > 1:
        raise ConfigError(f"{station.path}: has cameras {', '.join(names)}; choose one with --camera")
    for camera in station.pictures:
        if name in (None, camera.name):
            return camera
    raise ConfigError(f"--camera: {station.path} has no camera {name!r}; have {', '.join(names)}")


@click.command("tune")
@click.option("--uri", help="The camera's URI.")
@click.option("-c", "--config", type=click.Path(path_type=Path), help="A station file.")
@click.option("--camera", "name", help="Which camera of the station file; needed when it has several.")
@click.option("--roi", type=(int, int, int, int), help="Look at x y width height of the frame alone.")
@click.option(
    "--set", "features", multiple=True, metavar="NAME=VALUE",
    help="Try a feature of a basler:// or genicam:// camera, such as ExposureTime=8000.",
)  # fmt: skip
@click.option("--frames", type=click.IntRange(0), default=0, help="End after so many; 0: until Ctrl-C.")
def tune_command(
    uri: str | None,
    config: Path | None,
    name: str | None,
    roi: tuple[int, int, int, int] | None,
    features: Sequence[str],
    frames: int,
) -> None:
    """Show sharpness, brightness, saturation and flicker while focus, aperture and light are set."""
    if (uri is None) == (config is None):
        raise ConfigError("camera tune: give either --uri URI or -c FILE")
    if roi is not None and (min(roi[:2]) < 0 or min(roi[2:]) < 1):
        raise ConfigError(f"--roi: x and y from 0, width and height from 1 on (found {list(roi)})")
    base = Path()
    if config is not None:
        station = load_station(config)
        camera, base = choose(station, name), Path(station.path).parent
        # One of a camera's shots is tuned like any: as they come.
        camera = next(c for c in station.camera if camera in c.pictures)
    else:
        camera = Camera(name="camera", uri=uri or "")
    _show(_with_features(camera, features), base, roi, frames)


def _with_features(camera: Camera, texts: Sequence[str]) -> Camera:
    """The camera with features of the command line after its own."""
    if not texts:
        return camera
    from edge_ad.config.checks import genicam_problem

    settings = camera.genicam or Genicam()
    added = dict(_feature(text) for text in texts)
    genicam = msgspec.structs.replace(settings, features={**settings.features, **added})
    camera = msgspec.structs.replace(camera, genicam=genicam)
    if problem := genicam_problem(camera):
        raise ConfigError(f"--set{problem}")
    return camera


def _feature(text: str) -> tuple[str, FeatureValue]:
    name, found, value = text.rpartition("=")
    if not found or not name:
        raise ConfigError(f"--set {text!r}: expected NAME=VALUE, such as ExposureTime=8000")
    if value in ("true", "false"):
        return name, value == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def _show(camera: Camera, base: Path, roi: tuple[int, int, int, int] | None, frames: int) -> None:
    from rich.console import Console
    from rich.live import Live

    from edge_ad.capture.source import open_source
    from edge_ad.capture.tune import Tuner

    source, tuner, seen, faults, shown = open_source(camera, base), Tuner(roi), 0, 0, 0.0
    reading, wrong = None, ""  # of the last frame with a picture, of the last without
    source.open()
    begin = time.monotonic()
    with Live(console=Console(), auto_refresh=False) as live:
        try:
            while (not frames or seen < frames) and (frame := source.read()) is not None:
                seen += 1
                if frame.image is None:
                    faults += 1
                    wrong = f"{frame.fault}: {frame.detail}" if frame.detail else frame.fault
                else:
                    reading = tuner.read(frame.image)
                now = time.monotonic()
                title = f"{seen} frames, {seen / max(now - begin, 1e-9):.1f} per second, {faults} faulty"
                live.update(_table(f"{camera.name}: {title}", reading, wrong))
                if now - shown >= _EACH_S:
                    live.refresh()
                    shown = now
        except KeyboardInterrupt:
            pass  # Live shows what it was given last
        finally:
            source.close()


def _table(title: str, reading: Reading | None, wrong: str) -> Table:
    """`reading`: None while no frame had a picture; `wrong`: with the last frame that had none."""
    from rich.table import Table
    from rich.text import Text

    from edge_ad.capture.tune import advice

    table = Table(title=title, box=None)
    for column in ("", "now", ""):
        table.add_column(column)
    if wrong:
        table.add_row("last fault", "", Text(wrong))
    if reading is None:
        table.caption = "no picture yet"
        return table
    share = reading.sharpness / reading.best if reading.best else 0.0
    table.add_row(
        "sharpness", f"{1e3 * reading.sharpness:.2f}", f"{_bar(share)} {share:.0%} of the best"
    )
    table.add_row("mean", f"{reading.mean:.0f}", _bar(reading.mean / 255))
    table.add_row("saturated", f"{reading.saturated:.1%}", _bar(reading.saturated))
    table.add_row("black", f"{reading.black:.1%}", _bar(reading.black))
    table.add_row("flicker", f"{reading.flicker:.1%}", _bar(reading.flicker))
    table.caption = advice(reading) or "nothing stands out"
    return table


def _bar(share: float, width: int = 30) -> str:
    filled = round(width * min(1.0, max(0.0, share)))
    return "█" * filled + "·" * (width - filled)
