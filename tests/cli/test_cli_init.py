from __future__ import annotations

import re
from pathlib import Path

import msgspec
from click.testing import CliRunner

from edge_ad import config
from edge_ad.cli import init
from edge_ad.cli.init import TEMPLATE
from edge_ad.config import load_station, parse_station
from edge_ad.config.local import tomllib
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
    "camera.locate.box",
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
    "camera.locate": config.Locate,
    "view": config.View,
    "zone": config.Zone,
    "engine": config.Engine,
    "calibration": config.Calibration,
    "evidence": config.Evidence,
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
        if isinstance(value, dict):
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
