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
        ({"stattion": "x"}, "stattion"),
        ({"engine": {"thread": 2}}, "engine: .*thread"),
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
