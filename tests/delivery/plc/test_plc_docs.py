"""What deploy/plc says is what the code does, and its example runs."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from plc_program import until
from prometheus_client.registry import CollectorRegistry
from test_plc_bridge import Station

from edge_ad.delivery.plc.codes import MAP_VERSION, Result
from edge_ad.delivery.plc.metrics import PlcMetrics
from edge_ad.delivery.plc.registers import INPUT_SIZE, INPUTS, OUTPUT_SIZE, OUTPUTS

DEPLOY = Path(__file__).resolve().parents[3] / "deploy" / "plc"
README = (DEPLOY / "README.md").read_text(encoding="utf-8")
ST = (DEPLOY / "handshake.st").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def deploy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DEPLOY))


def test_the_readme_has_the_tables_of_the_code() -> None:
    from tables import tables

    for name, table in tables().items():
        assert table in README, f"{name}: run deploy/plc/tables.py and put its table into README.md"


def test_the_readme_names_every_metric() -> None:
    registry = CollectorRegistry()
    PlcMetrics(registry)
    names = {
        family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()
    }
    assert len(names) == 12
    assert names == set(re.findall(r"`(edge_ad_plc_\w+)", README))


def test_the_structured_text_uses_the_registers_of_the_map() -> None:
    constants = {n: int(v) for n, v in re.findall(r"(\w+)\s*: (?:INT|WORD) := (\d+);", ST)}
    place = {f"IN_{f.name.upper()}": f.offset for f in OUTPUTS}
    place |= {f"OUT_{f.name.upper()}": f.offset for f in INPUTS}
    place |= {
        "OUT_VERSION": place["OUT_MAP_VERSION"],
        "OUT_COUNT": place["OUT_TRIGGER_COUNT"],
        "MAP_VERSION": MAP_VERSION,
        "VERDICT_PASS": int(Result.PASS),
    }
    assert len(constants) == 11
    assert constants == {name: place[name] for name in constants}
    assert f"In        : ARRAY[0..{OUTPUT_SIZE - 1}]" in ST
    assert f"Out       : ARRAY[0..{INPUT_SIZE - 1}]" in ST


class Controller:
    """The other end of text_fieldbus.py."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.socket.makefile("rw", encoding="ascii", newline="\n")
        self.beat = 0

    def say(self, part: str = "", count: int = 0, **bits: int) -> None:
        self.beat += 1
        words = {"enable": 1, "trigger": 0, "ack": 0, "reset": 0, **bits}
        text = " ".join(f"{name}={value}" for name, value in words.items())
        self.file.write(
            f"part={part} product= map_version=1 heartbeat={self.beat} count={count} {text}\n"
        )
        self.file.flush()

    def until(self, name: str, value: str, **said: Any) -> dict[str, str]:
        while True:
            self.say(**said)
            line = dict(word.split("=", 1) for word in self.file.readline().split())
            if line[name] == value:
                return line

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    # Its heartbeat makes a line every few ms, so that a controller always has one to read.
    station = Station(tmp_path, heartbeat_ms=5.0)
    station.fieldbus = {"kind": "text_fieldbus:TextFieldbus", "options": {"port": 0}}
    yield station
    station.close()
    sys.modules.pop("text_fieldbus", None)


def test_the_example_of_another_fieldbus_carries_a_part(station: Station) -> None:
    station.start()
    controller = Controller(station.port)
    try:
        controller.until("ready", "1")
        controller.until("busy", "1", part="K1", count=1, trigger=1)
        line = controller.until("result_valid", "1")
        assert (line["part"], line["verdict"]) == ("K1", str(int(Result.PASS)))
        controller.until("result_valid", "0", ack=1)
        controller.until("ready", "1")
        controller.file.write("nonsense\n")
        controller.file.flush()
        # Nothing is said after it: of lines that come together only the newest counts.
        with suppress(ConnectionError):  # hung up, or the end of the file
            while controller.file.readline():
                pass
    finally:
        controller.close()
    again = Controller(station.port)
    again.until("ready", "1")
    again.close()
    until(lambda: station.bridge is not None and station.bridge.status()["triggers"] == 1)


def test_the_example_names_wrong_options(tmp_path: Path) -> None:
    from edge_ad.delivery.plc.fieldbus import make_fieldbus
    from edge_ad.errors import ConfigError

    with pytest.raises(ConfigError, match="needs port"):
        make_fieldbus("text_fieldbus:TextFieldbus", {"prot": 1}, "plc.toml")
