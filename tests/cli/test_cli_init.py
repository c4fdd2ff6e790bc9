from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from edge_ad import config
from edge_ad.cli import init
from edge_ad.cli.init import TEMPLATE
from edge_ad.cli.init_service import service_text
from edge_ad.config import load_station, parse_station
from edge_ad.config.gate import load_gate
from edge_ad.config.genicam import Genicam
from edge_ad.config.local import tomllib
from edge_ad.config.plc import load_plc
from edge_ad.errors import ConfigError, DeviceError

# Without a default, or with one that TOML cannot write: the template has an example instead.
EXAMPLES = {
    "schema",
    "station",
    "camera.name",
    "camera.uri",
    "view.name",
    "view.camera",
    "view.roi",
    "camera.genicam.features",
    "camera.locate.box",
    "camera.patch",
    "camera.locate.reference",
    "zone.name",
    "zone.camera",
    "zone.polygon",
    "zone.file",
    "zone.label",
    "trigger.present.camera",
    "trigger.present.roi",
}


def uncommented() -> dict[str, object]:
    data: dict[str, object] = tomllib.loads(re.sub(r"^#(?=\S)", "", TEMPLATE, flags=re.M))
    return data


def fields(struct: type[msgspec.Struct], prefix: str = "") -> dict[str, object]:
    """Every key of the configuration and its default."""
    found: dict[str, object] = {}
    for field in msgspec.structs.fields(struct):
        name = prefix + field.name
        inner = TABLES.get(name)
        if inner is not None:
            found |= fields(inner, name + ".")
        elif name != "path":
            found[name] = field.default
    return found


TABLES: dict[str, type[msgspec.Struct]] = {
    "camera": config.Camera,
    "camera.genicam": Genicam,
    "camera.locate": config.Locate,
    "view": config.View,
    "zone": config.Zone,
    "engine": config.Engine,
    "calibration": config.Calibration,
    "evidence": config.Evidence,
    "monitor": config.Monitor,
    "challenge": config.Challenge,
    "trigger": config.Trigger,
    "trigger.present": config.Present,
    "verdicts": config.Verdicts,
    "scores": config.Scores,
    "control": config.Control,
    "curve": config.Curve,
    "metrics": config.MetricsEndpoint,
}


def flat(data: dict[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            # What several tables of a list show, the first that shows a key.
            value = {k: v for table in reversed(value) for k, v in table.items()}
        if isinstance(value, dict) and prefix + key in TABLES:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = tuple(value) if isinstance(value, list) else value
    return found


def test_the_file_as_written_is_valid_and_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "line.toml"
    done = CliRunner().invoke(init.command, ["-o", str(path)])
    assert done.exit_code == 0 and str(path) in done.output
    station = load_station(path)
    plain = parse_station(
        {"schema": 1, "station": "line1", "camera": [{"name": "top", "uri": "v4l2:///dev/video0"}]},
        str(path),
    )
    assert station == plain


def test_every_key_is_there_with_its_true_default() -> None:
    shown, real = flat(uncommented()), fields(config.Station)
    assert set(shown) == set(real)
    wrong = {k: (v, real[k]) for k, v in shown.items() if k not in EXAMPLES and v != real[k]}
    assert wrong == {}


def test_the_examples_that_are_commented_out_are_valid() -> None:
    parse_station(uncommented(), "line.toml")


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "line.toml"
    path.write_text("mine")
    refused = CliRunner().invoke(init.command, ["-o", str(path)])
    assert isinstance(refused.exception, ConfigError) and "--force" in str(refused.exception)
    assert path.read_text() == "mine"
    assert CliRunner().invoke(init.command, ["-o", str(path), "--force"]).exit_code == 0
    assert path.read_text() == TEMPLATE


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    refused = CliRunner().invoke(init.command, ["-o", str(tmp_path / "none" / "line.toml")])
    assert isinstance(refused.exception, DeviceError) and "none/line.toml" in str(refused.exception)


@pytest.mark.parametrize("kind", ["line", "gate", "plc"])
def test_files_of_a_service_have_its_directories_and_fit_together(tmp_path: Path, kind: str) -> None:
    flags = [] if kind == "line" else [f"--{kind}"]
    file = tmp_path / f"{kind}.toml"
    done = CliRunner().invoke(init.command, [*flags, "--service", "line-7", "-o", str(file)])
    unit = {"line": "edge-ad", "gate": "edge-ad-station", "plc": "edge-ad-plc"}[kind]
    assert f"'systemctl enable --now {unit}@line-7'" in done.output
    line = parse_station(uncommented_service("line-7"))
    if kind == "line":
        station = load_station(file)
        assert station.station == "line-7"
        assert station.state_path == Path("/var/lib/edge-ad/line-7")
        assert station.control_endpoint == "ipc:///run/edge-ad/line-7/control.sock"
        return
    if kind == "gate":
        gate = load_gate(file)
        assert gate.station == "line-7"
        assert gate.endpoint(gate.source[0].endpoint) == line.verdicts_endpoint
        paths = [gate.control_endpoint, gate.present.uri, gate.output.uri]
        assert gate.state_path == Path("/var/lib/edge-ad/line-7/gate")
    else:
        plc = load_plc(file)
        assert plc.daemon.verdicts == line.verdicts_endpoint
        assert plc.daemon.trigger == line.trigger_endpoint
        assert plc.daemon.control == line.control_endpoint
        paths = [plc.control_endpoint]
        assert plc.state_path == Path("/var/lib/edge-ad/line-7/plc")
    assert all(path.startswith("ipc:///run/edge-ad/line-7/") for path in paths)


def uncommented_service(name: str) -> dict[str, object]:
    """The service's line.toml as it is written."""
    data: dict[str, object] = tomllib.loads(service_text(TEMPLATE, "line.toml", name))
    return data


def test_a_service_that_no_station_can_be_called_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(init.command, ["--service", "a/b", "-o", str(tmp_path / "line.toml")])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith("--service a/b: ")
    assert not (tmp_path / "line.toml").exists()
