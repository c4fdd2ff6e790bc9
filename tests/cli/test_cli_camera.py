from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_ad.camera_check import automatic_v4l2
from edge_ad.capture.devices import list_devices
from edge_ad.capture.parts import Placement, plate, render_part
from edge_ad.cli.camera import command
from edge_ad.config import Camera
from edge_ad.errors import CaptureError, CheckFailed, ConfigError, DeviceError

TWO = """
schema = 1
station = "s"
[[camera]]
name = "top"
uri = "synthetic://?seed=1&width=64&height=48"
[[camera]]
name = "side"
uri = "folder://parts"
"""


def test_list_shows_how_to_write_a_uri() -> None:
    done = CliRunner().invoke(command, ["list"])
    assert done.exit_code == 0
    for scheme in ("rtsp://", "gst://", "file:///", "folder:///", "synthetic://"):
        assert scheme in done.output


def test_devices_have_names_stable_uris_and_notes(tmp_path: Path) -> None:
    sys_root, dev = tmp_path / "sys", tmp_path / "dev"
    for node, index, name in (("video0", "0", "Cam A"), ("video1", "1", "Cam A"), ("video10", "0", "B")):
        (sys_root / node).mkdir(parents=True)
        (sys_root / node / "index").write_text(index + "\n")
        (sys_root / node / "name").write_text(name + "\n")
    (dev / "v4l" / "by-id").mkdir(parents=True)
    (dev / "video0").touch()
    (dev / "v4l" / "by-id" / "usb-Cam_A_123").symlink_to(dev / "video0")
    devices = list_devices(sys_root, dev)
    assert [(d.uri, d.name) for d in devices] == [
        (f"v4l2://{dev}/v4l/by-id/usb-Cam_A_123", "Cam A"),
        (f"v4l2://{dev}/video10", "B"),
    ]
    assert devices[0].note == "" and "is missing" in devices[1].note


def test_sensors_of_a_jetson_are_read_through_its_image_processor(tmp_path: Path) -> None:
    names = ("vi-output, imx219 9-0010", "USB camera", "vi-output, imx477 10-001a")
    for number, name in enumerate(names):
        (tmp_path / "sys" / f"video{number}").mkdir(parents=True)
        (tmp_path / "sys" / f"video{number}" / "name").write_text(name + "\n")
    devices = list_devices(tmp_path / "sys", tmp_path / "dev")
    assert [device.name for device in devices] == list(names)
    assert devices[1].uri == f"v4l2://{tmp_path}/dev/video1"
    for sensor, device in enumerate((devices[0], devices[2])):
        assert device.uri.startswith(f"gst://nvarguscamerasrc sensor-id={sensor} ! nvvidconv")


def test_automatic_functions_of_a_v4l2_camera_are_named_with_the_command(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.write_bytes(b"")
    camera = Camera(name="top", uri=f"v4l2://{device}?fps=30")

    def driver(values: dict[int, int]) -> Callable[[int, int, bytes], bytes]:
        def ask(handle: int, request: int, control: bytes) -> bytes:
            assert request == 0xC008561B  # VIDIOC_G_CTRL
            number, _ = struct.unpack("Ii", control)
            if number not in values:
                raise OSError(22, "Invalid argument")
            return struct.pack("Ii", number, values[number])

        return ask

    told = automatic_v4l2(camera, driver({0x009A0901: 3, 0x0098090C: 1, 0x00980912: 0}))
    assert told.endswith(f"'v4l2-ctl -d {device} -c auto_exposure=1,white_balance_automatic=0'")
    assert automatic_v4l2(camera, driver({0x009A0901: 1, 0x0098090C: 0})) == ""
    assert automatic_v4l2(camera) == ""  # a file has no controls
    assert automatic_v4l2(Camera(name="top", uri="folder:///x")) == ""


def test_grab_writes_the_very_pixels(tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    done = CliRunner().invoke(
        command,
        ["grab", "--uri", "synthetic://?seed=4&width=64&height=48&defect_rate=0", "-o", str(out)],
    )
    assert done.exit_code == 0, done.output
    assert "64 x 48 grey, pixel rule auto8" in done.output
    picture = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(picture, render_part(4, 0, 64, 48, 0.0)[0])


def test_grab_by_station_file_needs_the_cameras_name_when_there_are_two(tmp_path: Path) -> None:
    config, out = tmp_path / "line.toml", tmp_path / "a.png"
    config.write_text(TWO)
    (tmp_path / "parts").mkdir()
    cv2.imwrite(str(tmp_path / "parts" / "p.png"), np.full((9, 8, 3), 7, np.uint8))
    run = CliRunner()
    refused = run.invoke(command, ["grab", "-c", str(config), "-o", str(out)])
    assert isinstance(refused.exception, ConfigError) and "top, side" in str(refused.exception)
    unknown = run.invoke(command, ["grab", "-c", str(config), "--camera", "x", "-o", str(out)])
    assert isinstance(unknown.exception, ConfigError) and "have top, side" in str(unknown.exception)
    done = run.invoke(command, ["grab", "-c", str(config), "--camera", "side", "-o", str(out)])
    assert done.exit_code == 0 and "8 x 9 colour" in done.output


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["-o", "a.png"], ConfigError, "either --uri URI or -c"),
        (["--uri", "synthetic://", "-o", "a.jpg"], ConfigError, "ends in .png"),
        (["--uri", "v4l2:///dev/video98", "-o", "a.png"], CaptureError, "cannot be opened"),
        (["--uri", "synthetic://", "-o", "/nonexistent/a.png"], DeviceError, "cannot be written"),
    ],
)
def test_grab_says_what_is_wrong(arguments: list[str], kind: type[Exception], message: str) -> None:
    done = CliRunner().invoke(command, ["grab", *arguments])
    assert isinstance(done.exception, kind) and message in str(done.exception)


ZONES = """
[[view]]
name = "left"
camera = "top"
roi = [0, 0, 300, 480]
tiles = [2, 3]
[[view]]
name = "right"
camera = "top"
roi = [300, 0, 340, 480]
[[view]]
name = "other"
camera = "side"
[[zone]]
name = "far"
camera = "side"
polygon = [[0, 0], [9000, 0], [0, 9000]]
[[zone]]
name = "bore"
camera = "top"
polygon = [[250, 200], [400, 200], [400, 300]]
"""


def overlaid(tmp_path: Path, text: str) -> tuple[Result, Path]:
    config, out = tmp_path / "line.toml", tmp_path / "a.png"
    config.write_text(text)
    return CliRunner().invoke(
        command, ["grab", "-c", str(config), "--camera", "top", "--overlay", "-o", str(out)]
    ), out


def test_overlay_draws_what_the_camera_has_and_says_so(tmp_path: Path) -> None:
    plain = TWO.replace("width=64&height=48", "width=640&height=480&defect_rate=0")
    done, out = overlaid(tmp_path, plain + ZONES)
    assert done.exit_code == 0, done.exception
    assert "640 x 480 grey" in done.output
    assert "drawn: 2 views, 7 tiles, 1 zone\n" in done.output
    picture = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (480, 640, 3)
    before = cv2.cvtColor(render_part(1, 0, 640, 480, 0.0)[0], cv2.COLOR_GRAY2BGR)
    same = (picture == before).all(axis=2)
    assert not same[210:250, 340:380].any() and same[350:450, 420:600].all()


def test_overlay_lays_the_part_as_zones_are_drawn(tmp_path: Path) -> None:
    """On another part than the reference, which lies elsewhere."""
    plain = TWO.replace("width=64&height=48", "width=640&height=480&shift=0.05&angle=8")
    locate = '[camera.locate]\n[[camera]]\nname = "side"'
    done, _ = overlaid(tmp_path, plain.replace('[[camera]]\nname = "side"', locate))
    assert "0 zones, the box of the part; there is no reference part yet" in done.output
    cv2.imwrite(str(tmp_path / "part.png"), plate(1, 640, 480).render(7, "", Placement(20, -9, 5)))
    named = locate.replace("[camera.locate]", '[camera.locate]\nreference = "part.png"')
    done, out = overlaid(tmp_path, plain.replace('[[camera]]\nname = "side"', named) + ZONES)
    assert "the box of the part; laid straight: it was off by" in done.output
    picture = cv2.cvtColor(cv2.imread(str(out)), cv2.COLOR_BGR2GRAY)
    reference = cv2.imread(str(tmp_path / "part.png"), cv2.IMREAD_GRAYSCALE)
    taken = render_part(1, 0, 640, 480, 0.0, shift=0.05, angle=8)[0]
    spot = (slice(90, 160), slice(90, 160))  # the upper left hole, where nothing is drawn
    assert cv2.absdiff(picture[spot], reference[spot]).mean() < 6
    assert cv2.absdiff(taken[spot], reference[spot]).mean() > 12
    cv2.imwrite(str(tmp_path / "part.png"), np.zeros((48, 64), np.uint8))
    done, _ = overlaid(tmp_path, plain.replace('[[camera]]\nname = "side"', named))
    assert isinstance(done.exception, CheckFailed) and "no texture" in str(done.exception)


def test_overlay_says_what_is_wrong(tmp_path: Path) -> None:
    refused = CliRunner().invoke(command, ["grab", "--uri", "synthetic://", "--overlay", "-o", "a.png"])
    assert isinstance(refused.exception, ConfigError) and "give -c FILE" in str(refused.exception)
    plain = TWO.replace("width=64&height=48", "width=320&height=480")
    done, out = overlaid(tmp_path, plain + ZONES)
    assert isinstance(done.exception, ConfigError) and not out.exists()
    assert "line.toml: zone[1].polygon: corner 1 at 400, 200 is outside" in str(done.exception)
    box = "[camera.locate]\nbox = [0, 0, 700, 20]\n"
    done, _ = overlaid(
        tmp_path, TWO.replace('[[camera]]\nname = "side"', f'{box}[[camera]]\nname = "side"')
    )
    assert "locate.box [0, 0, 700, 20] (x, y, width, height) is outside of 64 x 48" in str(
        done.exception
    )
