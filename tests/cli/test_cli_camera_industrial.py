"""Industrial cameras at the command line: found, looked at, tuned and checked."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from industrial_cameras import BASLER, GENICAM, camera_of, fake_gige, held

from edge_ad.camera_check import check_industrial, interface_to, link_speed
from edge_ad.capture.connection import BUSY
from edge_ad.check import check_station
from edge_ad.cli.camera import command
from edge_ad.config import parse_station
from edge_ad.errors import CaptureError, ConfigError
from edge_ad.trigger_check import check_trigger

SMALL = {"Width": 64, "Height": 48, "AcquisitionFrameRateEnable": True, "AcquisitionFrameRate": 200.0}


def run(*arguments: str) -> str:
    done = CliRunner().invoke(command, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_a_gige_camera_is_listed_grabbed_and_checked(tmp_path: Path) -> None:
    rmem, out = tmp_path / "rmem_max", tmp_path / "a.png"
    rmem.write_text("212992\n")
    fast = {"features": {"AcquisitionFrameRate": 100.0}, "buffers": 64}
    with fake_gige() as gige:
        gige.start()
        listed = run("list")
        assert f"{GENICAM}  Aravis Fake GV01 at 127.0.0.1" in listed
        assert f"{BASLER}  Basler Emulation 0815-0000" in listed
        assert "512 x 512 grey" in run("grab", "--uri", "genicam://127.0.0.1", "-o", str(out))
        assert cv2.imread(str(out), cv2.IMREAD_UNCHANGED).shape == (512, 512)
        state, text = check_industrial(camera_of("genicam://127.0.0.1", fast), tmp_path, rmem)
        assert state == "warn" and text.startswith("Mono8, set and read back; packets of 1400 bytes ov")
        assert "over lo with an MTU of 65536; 100 frames, none lost" in text
        assert "packets could be larger; set GevSCPSPacketSize = 8192" in text
        assert "hold 0.2 MB for a socket, a frame is 0.3 MB; 'sysctl -w net.core.rmem_max=" in text
        (tmp_path / "lo").mkdir()
        (tmp_path / "lo" / "speed").write_text("100\n")
        camera = camera_of("genicam://127.0.0.1", fast)
        state, text = check_industrial(camera, tmp_path, rmem, tmp_path)
        assert "a link of 100 Mbit/s" in text and "the link is slower than 1000 Mbit/s; look at" in text
        with held(camera), pytest.raises(CaptureError, match=re.escape(BUSY)):
            check_industrial(camera, tmp_path)
        gige.kill()
        gige.start(lost_per_mille=20)
        state, text = check_industrial(camera_of("genicam://127.0.0.1", fast), tmp_path)
        assert state == "warn" and "arrived incomplete; look at cable, switch" in text


def test_check_names_automatic_functions_and_settings(tmp_path: Path) -> None:
    def findings(features: dict[str, Any], **genicam: Any) -> list[tuple[str, str]]:
        camera = {"name": "top", "uri": BASLER, "genicam": {"features": SMALL | features, **genicam}}
        table = {"schema": 1, "station": "s", "state_dir": str(tmp_path), "camera": [camera]}
        # It is tried as it is asked for: what comes after the cameras is of no interest.
        found = takewhile(
            lambda one: not one.name.startswith("view"), check_station(parse_station(table))
        )
        return [(one.state, one.text) for one in found if one.name == "camera top"]

    frame, settings = findings({})
    assert frame[0] == "ok" and "one frame of 64 x 48" in frame[1]
    assert settings == ("ok", "Mono8, set and read back; 100 frames, none lost")
    _, (state, text) = findings({"GainAuto": "Continuous"})
    assert state == "warn" and "GainAuto alters the picture from part to part; set it to 'Off'" in text
    waits, settings = findings({}, trigger="Line1")
    assert waits == ("ok", "waits for Line1; 'edge-ad camera grab' shows a part that comes by")
    assert settings[0] == "ok" and "waits for Line1, so loss was not looked for" in settings[1]
    refused = findings({"Gain": 1e9})
    assert [state for state, _ in refused] == ["fail", "fail"] and "Gain: Value" in refused[0][1]


@pytest.mark.parametrize(
    ("kind", "trigger", "state", "text"),
    [
        ("line", "", "warn", "top runs free, so each of its frames is a part; set genicam.trigger"),
        ("line", "Software", "fail", "takes pictures when the daemon asks, not when a part comes"),
        ("line", "Line1", "ok", "line: every frame is a part"),
        ("software", "Line1", "fail", "an industrial camera can with genicam.trigger = 'Software'"),
        ("software", "Software", "ok", "software: each trigger is a part"),
    ],
)
def test_the_kind_of_trigger_and_the_cameras_go_together(
    kind: str, trigger: str, state: str, text: str
) -> None:
    camera = {"name": "top", "uri": BASLER, "genicam": {"trigger": trigger}}
    table = {"schema": 1, "station": "s", "camera": [camera], "trigger": {"kind": kind}}
    found = check_trigger(parse_station(table))
    assert found[0] == state and text in found[1]


class OfLink:
    """A camera's features, where only its link is of interest."""

    def __init__(self, **values: Any) -> None:
        self._values = values

    def has(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str) -> Any:
        return self._values[name]


@pytest.mark.parametrize(
    ("features", "interface", "speed"),
    [
        ({"GevLinkSpeed": 1000}, "100\n", 100),  # a switch of old between them
        ({"DeviceLinkSpeed": 125_000_000}, "10000\n", 1000),  # bytes per second
        ({"BslUSBSpeedMode": "HighSpeed"}, None, 480),
        ({"BslUSBSpeedMode": "SuperSpeed"}, None, 5000),
        ({"DeviceLinkSpeed": 625_000_000}, None, 5000),
        ({}, "-1\n", 0),
        ({}, None, 0),
    ],
)
def test_the_link_is_as_fast_as_its_slower_end(
    tmp_path: Path, features: dict[str, Any], interface: str | None, speed: int
) -> None:
    file = tmp_path / "speed"
    if interface is not None:
        file.write_text(interface)
    assert link_speed(OfLink(**features), file) == speed  # type: ignore[arg-type]


def test_an_address_that_is_nowhere_has_no_interface() -> None:
    assert interface_to("127.0.0.1")[0] == "lo"
    assert interface_to("0.0.0.256") == ("", 0)


def test_tune_shows_what_the_camera_sees(tmp_path: Path) -> None:
    shown = run("tune", "--uri", BASLER, "--frames", "4", "--set", "Width=64", "--set", "Gain=2.5")
    assert "camera: 4 frames" in shown and "0 faulty" in shown
    for row in ("sharpness", "mean", "saturated", "black", "flicker", "of the best"):
        assert row in shown
    config = tmp_path / "line.toml"
    config.write_text(
        'schema = 1\nstation = "s"\n[[camera]]\nname = "top"\nshots = ["a", "b"]\n'
        'uri = "synthetic://?width=64&height=48&parts=3"\n'
    )
    shown = run("tune", "-c", str(config), "--camera", "top.a", "--roi", "0", "0", "20", "20")
    assert "top: 6 frames" in shown  # its end


def test_tune_says_why_there_is_no_picture(tmp_path: Path) -> None:
    """A camera of which every frame is faulty: what a person sees is why."""
    (tmp_path / "a.png").write_bytes(b"no picture")
    shown = run("tune", "--uri", f"folder://{tmp_path}?loop=1", "--frames", "3")
    assert "3 frames" in shown and "3 faulty" in shown
    assert "unreadable: " in shown and "not a PNG" in shown and "no picture yet" in shown
    cv2.imwrite(str(tmp_path / "b.png"), np.full((48, 64), 128, np.uint8))
    shown = run("tune", "--uri", f"folder://{tmp_path}?loop=1", "--frames", "4")
    assert "2 faulty" in shown and "unreadable: " in shown and "saturated" in shown


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ([], ConfigError, "either --uri URI or -c FILE"),
        (["--uri", BASLER, "--roi", "0", "0", "0", "5"], ConfigError, "width and height from 1 on"),
        (["--uri", BASLER, "--set", "Gain"], ConfigError, "expected NAME=VALUE"),
        (["--uri", BASLER, "--set", "TriggerMode=On"], ConfigError, "is set by genicam.trigger"),
        (["--uri", "synthetic://", "--set", "Gain=1"], ConfigError, "belongs to basler://"),
        (["--uri", BASLER, "--set", "ReverseX=maybe"], CaptureError, "another kind of value"),
    ],
)
def test_tune_says_what_is_wrong(arguments: list[str], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        run("tune", *arguments)
