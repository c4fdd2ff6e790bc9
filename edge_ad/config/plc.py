"""`plc.toml`, the configuration of `edge-ad plc`: every default, bound and unit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from edge_ad.config.delivery import MetricsEndpoint, Name, OwnKey
from edge_ad.config.local import CompanionFile, parse_file, parse_table, read_toml
from edge_ad.errors import ConfigError

T = TypeVar("T")
_Address = Annotated[int, Meta(ge=0, le=65535)]
_Port = Annotated[int, Meta(ge=0, le=65535)]
_Ms = Annotated[float, Meta(gt=0, le=600_000)]


class DaemonEndpoints(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[daemon]`: where the daemon is."""

    # Its ZeroMQ endpoints, as its station file has them; ipc paths are relative to this file.
    verdicts: str = "ipc://state/verdicts.sock"
    trigger: str = "ipc://state/trigger.sock"
    control: str = "ipc://state/control.sock"
    # Its public key (NAME.key), where its endpoints are TCP and it has [curve].
    server_key: str = ""
    # As in its [verdicts].
    heartbeat_ms: _Ms = 500.0
    lost_ms: _Ms = 1500.0


class Times(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[handshake]`: milliseconds, and how many parts."""

    deadline_ms: _Ms = 500.0
    ack_ms: _Ms = 2000.0
    plc_ms: _Ms = 1000.0
    heartbeat_ms: _Ms = 100.0
    poll_ms: Annotated[float, Meta(ge=1, le=1000)] = 5.0
    depth: Annotated[int, Meta(ge=1, le=64)] = 1
    remember_keys: Annotated[int, Meta(ge=1, le=10_000_000)] = 100_000


class Fieldbus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[fieldbus]`: what leads to the PLC."""

    # "modbus-server", "modbus-client", or "module:Class" of a plug-in.
    kind: str = "modbus-server"
    # Of that kind; see ModbusServerOptions and ModbusClientOptions.
    options: dict[str, Any] = {}


class ModbusServerOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[fieldbus.options]` of kind "modbus-server"."""

    host: str = "127.0.0.1"
    port: _Port = 1502
    # Base addresses of the two register blocks, counted from 0.
    inputs: _Address = 0
    outputs: _Address = 100
    # Which character of a register comes first: the one in its high or in its low byte.
    byte_order: Literal["high_first", "low_first"] = "high_first"


class ModbusClientOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[fieldbus.options]` of kind "modbus-client"."""

    host: str
    port: _Port = 502
    unit: Annotated[int, Meta(ge=0, le=255)] = 1
    inputs: _Address = 0
    outputs: _Address = 100
    byte_order: Literal["high_first", "low_first"] = "high_first"
    poll_ms: Annotated[float, Meta(ge=1, le=1000)] = 5.0
    timeout_ms: _Ms = 500.0


class Records(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[records]`: what was heard and told, in STATE_DIR/plc.db."""

    # How many verdicts and results are kept; the oldest go.
    keep: Annotated[int, Meta(ge=1000, le=100_000_000)] = 1_000_000


class PlcMetrics(MetricsEndpoint, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[metrics]`, on a port of its own beside the daemon's."""

    port: Annotated[int, Meta(ge=0, le=65535)] = 9572


class Plc(CompanionFile, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole plc.toml."""

    schema: Literal[1]
    # What the daemon knows the bridge by: it stands in its verdicts.consumers.
    name: Name = "plc"
    state_dir: str = "plc-state"
    daemon: DaemonEndpoints = msgspec.field(default_factory=DaemonEndpoints)
    fieldbus: Fieldbus = msgspec.field(default_factory=Fieldbus)
    handshake: Times = msgspec.field(default_factory=Times)
    records: Records = msgspec.field(default_factory=Records)
    curve: OwnKey = msgspec.field(default_factory=OwnKey)
    metrics: PlcMetrics = msgspec.field(default_factory=PlcMetrics)


def load_plc(path: str | Path) -> Plc:
    """Read and check a plc.toml. Raises ConfigError that names file, key, value and bound."""
    return parse_plc(read_toml(Path(path), "file", "edge-ad init --plc"), str(path))


def parse_plc(data: dict[str, Any], path: str = "") -> Plc:
    """Check an already parsed file. `path` is used in messages and to resolve relative paths."""
    plc = parse_file(data, Plc, path)
    if plc.handshake.heartbeat_ms < plc.handshake.poll_ms:
        raise ConfigError(
            f"{plc.where}: handshake.heartbeat_ms: {plc.handshake.heartbeat_ms:g} is shorter than "
            f"poll_ms ({plc.handshake.poll_ms:g}), so it cannot be kept; give more"
        )
    if plc.daemon.server_key and not plc.curve.secret:
        raise ConfigError(
            f"{plc.where}: daemon.server_key: needs an own key besides; set curve.secret ('edge-ad keys "
            "new plc -o keys/' makes one)"
        )
    return plc


def read_options(struct: type[T], options: Mapping[str, Any], where: str) -> T:
    """`[fieldbus.options]` as a struct. Raises ConfigError that names file, key, value and bound."""
    return parse_table(dict(options), struct, f"{where}: fieldbus.options.")
