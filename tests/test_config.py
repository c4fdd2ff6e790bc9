from __future__ import annotations

from pathlib import Path

import pytest

from edge_ad.config import load_station, parse_station
from edge_ad.errors import ConfigError

MINIMAL = {"schema": 1, "station": "line1", "camera": [{"name": "top", "uri": "folder:///parts"}]}


def test_minimal_file_gets_one_view_per_camera(tmp_path: Path) -> None:
    path = tmp_path / "line.toml"
    path.write_text('schema = 1\nstation = "line1"\n[[camera]]\nname = "top"\nuri = "folder:///p"\n')
    station = load_station(path)
    assert [v.name for v in station.views] == ["top"]
    assert station.state_path == tmp_path / "state"
    assert station.control_endpoint == f"ipc://{tmp_path}/state/control.sock"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"stattion": "x"}, r"unknown key 'stattion'; did you mean 'station'\?"),
        ({"deadline": 5.0}, r"unknown key 'deadline'; did you mean 'deadline_ms'\?"),
        ({"zz": 5.0}, "unknown key 'zz'; there may be calibration, camera, .*, view, zone$"),
        ({"engine": {"thread": 2}}, r"engine: unknown key 'thread'; did you mean 'threads'\?"),
        (
            {"evidence": {"queue_mb": 2}},
            r"evidence: unknown key 'queue_mb'; did you mean 'queue' or 'queue_megabytes'\?",
        ),
        (
            {"camera": [{"name": "a", "uri": "x", "locate": {"shift": 0.1}}]},
            r"camera\[0\].locate: unknown key 'shift'; did you mean 'max_shift' or 'shot'\?",
        ),
        ({"engine": {"threads": -1}}, r"engine.threads: .*>= 0.*found -1"),
        ({"deadline_ms": 0.0}, r"deadline_ms: .*> 0.*found 0.0"),
        ({"calibration": {"false_reject_rate": 0.9}}, r"false_reject_rate: .*< 0.5.*found 0.9"),
        ({"schema": 2}, "schema"),
        ({"camera": []}, "camera"),
        ({"view": [{"name": "v", "camera": "side"}]}, r"view\[0\].camera.*'side'.*top"),
        ({"calibration": {"pca": 0.9, "npca": 0.1}}, "exclude each other"),
        ({"path": "x"}, "unknown key 'path'"),
    ],
)
def test_error_names_file_key_value_and_bound(change: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError, match=f"line.toml: .*{expected}") as caught:
        parse_station({**MINIMAL, **change}, "line.toml")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="edge-ad init"):
        load_station(tmp_path / "none.toml")


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "line.toml"
    path.write_text("schema = \n")
    with pytest.raises(ConfigError, match="line 1"):
        load_station(path)


def test_several_cameras_may_not_skip() -> None:
    cameras = [{"name": n, "uri": "v4l2:///dev/video0", "overflow": "skip"} for n in ("a", "b")]
    with pytest.raises(ConfigError, match="different parts"):
        parse_station({**MINIMAL, "camera": cameras}, "line.toml")


POLYGON = [[1.0, 1.0], [9.0, 1.0], [9.0, 9.0]]
ZONE = {"name": "z", "camera": "top"}


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ({"camera": "side", "polygon": POLYGON}, r"camera: no camera is named 'side'; have \['top'\]"),
        ({}, "polygon: zone 'z' has neither polygon nor file; give one"),
        (
            {"polygon": POLYGON, "file": "z.png", "label": 3},
            "polygon: zone 'z' has both",
        ),
        ({"polygon": POLYGON[:2]}, "polygon: Expected `array` of length >= 3"),
        ({"polygon": [*POLYGON, [1.0]]}, r"polygon\[3\]: .* length 2"),
        ({"polygon": POLYGON, "label": 3}, "label: belongs to file"),
        ({"polygon": POLYGON, "kind": "mask"}, "kind: Invalid enum value 'mask'"),
        ({"file": "z.png"}, r"label: z.png has grey values; give one, label = 3 \(found None\)"),
        ({"file": "z.png", "label": "logo"}, r"label: z.png has grey values.*\(found 'logo'\)"),
        ({"file": "z.png", "label": True}, "label: Expected `int | str | null`, got `bool`"),
        ({"file": "z.json", "label": 3}, r"label: z.json has names.*'logo' \(found 3\)"),
        ({"file": "z.jpg", "label": 3}, r"file: expected a label image .*\(found 'z.jpg'\)"),
        ({"polygon": POLYGON, "share": 1.0}, r"share: .*< 1.0.*found 1.0"),
        ({"polygon": POLYGON, "share": float("nan")}, "share: .*found nan"),
        ({"polygon": POLYGON, "min_area": -1.0}, r"min_area: .*>= 0.*found -1.0"),
        ({"polygon": POLYGON, "min_area": float("inf")}, "min_area: .*found inf"),
        ({"polygon": POLYGON, "allow": 2}, "allow: 2 findings of at most 0 allow nothing"),
        ({"polygon": POLYGON, "allow_area": 2.0}, "allow: 0 findings of at most 2 allow nothing"),
        ({"polygon": POLYGON, "kind": "ignore", "min_area": 2.0}, "min_area: zone 'z' is ignored"),
        ({"polygon": POLYGON, "kind": "ignore", "share": 0.1}, "share: zone 'z' is ignored"),
    ],
)
def test_a_zone_that_contradicts_itself_is_refused(zone: dict[str, object], expected: str) -> None:
    good = {**ZONE, "name": "good", "polygon": POLYGON}
    expected = expected.replace("| ", r"\| ")
    with pytest.raises(ConfigError, match=rf"line.toml: zone\[1\].{expected}") as caught:
        parse_station({**MINIMAL, "zone": [good, {**ZONE, **zone}]}, "line.toml")
    assert "\n" not in str(caught.value)


def test_zones_as_they_are_meant() -> None:
    zones = [
        {**ZONE, "polygon": [[0, 0], [9, 0], [9, 9]], "share": 0.5, "allow": 2, "allow_area": 4},
        {**ZONE, "name": "y", "kind": "ignore", "file": "zones.json", "label": "logo"},
    ]
    camera = {**MINIMAL["camera"][0], "px_per_mm": 12}  # type: ignore[index]
    station = parse_station({**MINIMAL, "camera": [camera], "zone": zones}, "line.toml")
    assert station.zone[0].polygon == ((0.0, 0.0), (9.0, 0.0), (9.0, 9.0))
    assert [z.kind for z in station.zone] == ["inspect", "ignore"]
    assert station.camera[0].px_per_mm == 12.0


def test_zones_need_frames_of_one_size() -> None:
    camera = {**MINIMAL["camera"][0], "frame_size": "any"}  # type: ignore[index]
    with pytest.raises(ConfigError, match=r"zone\[0\].camera: .* set frame_size = 'fixed' of 'top'"):
        parse_station({**MINIMAL, "camera": [camera], "zone": [{**ZONE, "polygon": POLYGON}]}, "l.toml")


def test_names_and_shares_of_zones_together() -> None:
    zones = [{**ZONE, "name": n, "polygon": POLYGON, "share": 0.5} for n in ("a", "b")]
    with pytest.raises(ConfigError, match="zone: the shares add up to 1; what is left"):
        parse_station({**MINIMAL, "zone": zones}, "line.toml")
    with pytest.raises(ConfigError, match="zone name 'a' is used twice"):
        parse_station({**MINIMAL, "zone": [zones[0], zones[0]]}, "line.toml")
    many = [{**ZONE, "name": f"z{i}", "polygon": POLYGON} for i in range(251)]
    with pytest.raises(ConfigError, match=r"zone: .*length <= 250"):
        parse_station({**MINIMAL, "zone": many}, "line.toml")
