"""`edge-ad camera`: find a camera's URI, take a picture, focus and expose it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from edge_ad.cli.camera_tune import choose, tune_command
from edge_ad.config import Camera, PixelFormat, Station, load_station
from edge_ad.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from edge_ad.frame import Image

_OTHERS = """
Other sources, for the key `uri` of [[camera]]:
  rtsp://user:password@host/path        a network camera
  basler://SERIAL                       a Basler camera (pip install 'edge_ad[basler]')
  genicam://ID                          GigE Vision, USB3 Vision (apt-get install libaravis-0.8-0)
  gst://PIPELINE                        what gst-launch-1.0 takes, without a sink (GStreamer)
  file:///video.mp4?loop=1              a video file
  folder:///directory?loop=0&fps=0      image files, sorted by path
  synthetic://?seed=1&defect_rate=0.05  rendered parts, where there is no camera"""


@click.group()
def command() -> None:
    """List cameras, take a picture, focus and expose."""


command.add_command(tune_command)


@command.command("list")
def list_command() -> None:
    """The cameras of this machine and their URIs."""
    from edge_ad.capture.devices import list_devices, list_industrial

    devices = list_devices() + list_industrial()
    if not devices:
        click.echo("no camera is connected to this machine (no /sys/class/video4linux/video*)")
    for device in devices:
        note = f"  ({device.note})" if device.note else ""
        click.echo(f"{device.uri}  {device.name}{note}")
    click.echo(_OTHERS)


@command.command("grab")
@click.option("--uri", help="The camera's URI.")
@click.option("-c", "--config", type=click.Path(path_type=Path), help="A station file.")
@click.option(
    "--camera",
    "name",
    help="Which camera of the station file, or CAMERA.SHOT; needed when it has several.",
)
@click.option(
    "--pixel-format", type=click.Choice(get_args(PixelFormat)), default="auto", show_default=True
)
@click.option("--bit-depth", type=click.IntRange(0, 16), default=0, help="Of mono10, mono12, mono16.")
@click.option("--overlay", is_flag=True, help="Draw the station file's views, tiles and zones on it.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE.png")
def grab_command(
    uri: str | None,
    config: Path | None,
    name: str | None,
    pixel_format: str,
    bit_depth: int,
    overlay: bool,
    output: Path,
) -> None:
    """Take one picture with --uri, or as -c FILE [--camera NAME] says, and write it losslessly."""
    from edge_ad.calibration_set import encode_image
    from edge_ad.capture.grab import grab

    if (uri is None) == (config is None):
        raise ConfigError("camera grab: give either --uri URI or -c FILE")
    if output.suffix.lower() != ".png":
        raise ConfigError(f"-o {output}: pictures are kept losslessly; give a name that ends in .png")
    if overlay and config is None:
        raise ConfigError(
            "camera grab: --overlay draws what a station file has; give -c FILE, not --uri"
        )
    station, base = None, Path()
    if config is not None:
        station = load_station(config)
        camera, base = choose(station, name), Path(station.path).parent
        source = next(c for c in station.camera if camera in c.pictures)
        shot, join_ms = camera.name.removeprefix(source.name).removeprefix("."), station.join_ms
    else:
        assert uri is not None
        camera = Camera(
            name="camera",
            uri=uri,
            pixel_format=pixel_format,  # type: ignore[arg-type]
            bit_depth=bit_depth,
        )
        source, shot, join_ms = camera, "", 0.0
    image, rule = grab(source, base, shot, join_ms)
    picture, drawn = _overlay(station, camera, image) if overlay and station else (image, "")
    data = encode_image(".png", picture, [])
    try:
        output.write_bytes(data)
    except OSError as error:
        raise DeviceError(
            f"{output}: cannot be written ({error.strerror}); give another path"
        ) from error
    kind = "grey" if image.ndim == 2 else "colour"
    clipped = 100 * float((image == 255).mean())
    click.echo(
        f"{output}: {image.shape[1]} x {image.shape[0]} {kind}, pixel rule {rule}, "
        f"mean {image.mean():.0f}, {clipped:.1f} % saturated{drawn}"
    )


def _overlay(station: Station, camera: Camera, image: Image) -> tuple[Image, str]:
    """The picture with what the station file says of the camera drawn on it, and what that is. Where the
    camera locates, with the part laid as regions and zones are drawn, if it is known how."""
    from edge_ad.locate.regions import default_box, within_reach
    from edge_ad.preprocess.resize import inside
    from edge_ad.preprocess.views import count_tiles
    from edge_ad.report.overlay import draw_overlay
    from edge_ad.zones import label_images

    locate, box = camera.locate, None
    views = [view for view in station.views if view.camera == camera.name]
    views = within_reach(views, {camera.name: locate}, {camera.name: image.shape})
    zones = [zone for zone in station.zone if zone.camera == camera.name]
    base = Path(station.path).parent
    labels = label_images(station.zone, base, {camera.name: image.shape}, station.path)
    tiles = count_tiles(views)
    text = (
        f"\ndrawn: {_count(len(views), 'view')}, {_count(tiles, 'tile')}, {_count(len(zones), 'zone')}"
    )
    if locate is not None:
        box = locate.box or default_box(image.shape, locate.max_shift)
        if not inside(box, image.shape):
            raise ConfigError(
                f"{station.path}: camera {camera.name!r}: locate.box {list(box)} (x, y, width, height) "
                f"is outside of {image.shape[1]} x {image.shape[0]} px; correct it"
            )
        image, where = _straight(station, camera, image)
        text += f", the box of the part; {where}"
    return draw_overlay(image, views, zones, labels.get(camera.name), box), text


def _straight(station: Station, camera: Camera, image: Image) -> tuple[Image, str]:
    """The picture with the part laid like the reference part, and a line about how it lies."""
    import numpy as np

    from edge_ad.calibrate.locating import open_locator
    from edge_ad.calibrate.plan import located_by

    if camera.locate is not None and camera.locate.shot:
        return image, f"this part lies as it was found; {camera.locate.shot} is where it is located"
    reference = located_by(station, anew=False).get(camera.name)
    if reference is None or camera.locate is None:
        return image, "there is no reference part yet: this one lies as it was found"
    locator = open_locator(camera.locate, reference)
    if image.shape != locator.shape:
        raise ConfigError(
            f"{reference}: the reference part has shape {list(locator.shape)}, the frame has "
            f"{list(image.shape)}; set locate.reference to a picture of this size"
        )
    located = locator.find(image)
    if located.pose is None:
        return image, f"this part lies as it was found, being FAULT {located.failure}: {located.detail}"
    pose, straight = located.pose, np.empty_like(image)
    locator.straighten(image, pose, straight)
    return straight, (
        f"laid straight: it was off by {pose.dx:+.1f}, {pose.dy:+.1f} px and {pose.angle:+.2f} degrees"
    )


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"
