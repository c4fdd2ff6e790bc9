from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from edge_ad.cli import init
from edge_ad.cli.init_plc import PLC_TEMPLATE
from edge_ad.config import plc as config
from edge_ad.config.local import tomllib
from edge_ad.config.plc import ModbusClientOptions, ModbusServerOptions, load_plc, parse_plc
from edge_ad.errors import ConfigError


def shown() -> dict[str, Any]:
    text = re.sub(r"^#(?=\S)", "", PLC_TEMPLATE, flags=re.M)
    return tomllib.loads(text)  # type: ignore[no-any-return]


def test_the_file_as_written_is_valid_and_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "plc.toml"
    done = CliRunner().invoke(init.command, ["--plc", "-o", str(path)])
    assert done.exit_code == 0 and "edge-ad plc" in done.output
    assert load_plc(path) == parse_plc({"schema": 1}, str(path))


def test_every_key_is_there_with_its_true_default() -> None:
    data = shown()
    options = data["fieldbus"].pop("options")
    assert options == msgspec.to_builtins(ModbusServerOptions())
    real = msgspec.to_builtins(config.Plc(schema=1))
    del real["path"], real["fieldbus"]["options"]
    assert data == real


def test_the_other_kinds_options_are_named_with_their_defaults() -> None:
    said = PLC_TEMPLATE[PLC_TEMPLATE.index('# Of kind "modbus-client"') :]
    said = said[: said.index("[handshake]")]
    for field in msgspec.structs.fields(ModbusClientOptions):
        assert field.name in said
    assert "(502)" in said and "unit (1)" in said and "poll_ms (5.0)" in said and "(500.0)" in said


@pytest.mark.parametrize(
    "data, message",
    [
        ({"schema": 2}, "schema"),
        ({"schema": 1, "colour": 1}, "colour"),
        ({"schema": 1, "path": "x"}, "'path'"),
        ({"schema": 1, "handshake": {"depth": 0}}, r"handshake.depth: .*0"),
        ({"schema": 1, "handshake": {"heartbeat_ms": 2.0}}, "heartbeat_ms"),
        ({"schema": 1, "name": "no blanks"}, "name"),
    ],
)
def test_a_wrong_key_is_named(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        parse_plc(data, "plc.toml")
    assert str(refused.value).startswith("plc.toml: ")


def test_a_file_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="init --plc"):
        load_plc(tmp_path / "none.toml")


def test_ipc_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    plc = parse_plc({"schema": 1}, str(tmp_path / "plc.toml"))
    assert plc.endpoint(plc.daemon.verdicts) == f"ipc://{tmp_path}/state/verdicts.sock"
    assert plc.endpoint("tcp://10.0.0.1:5571") == "tcp://10.0.0.1:5571"
    assert plc.control_endpoint == f"ipc://{tmp_path}/plc-state/control.sock"
