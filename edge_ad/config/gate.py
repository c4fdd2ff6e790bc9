"""`gate.toml`, the configuration of `edge-ad station`: every default, bound and unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edge_ad.config.delivery import MetricsEndpoint, Name, OwnKey
from edge_ad.config.local import CompanionFile, parse_file, read_toml
from edge_ad.errors import ConfigError

_Ms = Annotated[float, Meta(ge=0, le=600_000)]
_Some = Annotated[float, Meta(gt=0, le=600_000)]
_Counts = Annotated[int, Meta(ge=0, le=1_000_000_000)]
_Rate = Annotated[float, Meta(ge=10, le=60_000)]


class VerdictSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[source]]`: a daemon whose verdicts are heard, one per group of cameras."""

    name: Name
    # The daemon's verdicts.endpoint; a path after ipc:// is relative to this file.
    endpoint: str
    # One of the names in the daemon's verdicts.consumers, which no other program uses.
    consumer: Name = "gate"
    # Whether a part needs this daemon's PASS. Verdicts of others are only recorded.
    required: bool = True
    # The daemon's public key (its NAME.key), where its endpoint is TCP and it has [curve].
    server_key: str = ""
    # As in the daemon's [verdicts].
    heartbeat_ms: _Rate = 500.0
    lost_ms: Annotated[float, Meta(ge=20, le=600_000)] = 1500.0


class Belt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[belt]`: from the station's part-present sensor to the gate, by time or by encoder."""

    # From the sensor to the gate: milliseconds at constant speed, or counts of the encoder; one of them.
    travel_ms: _Ms = 0.0
    travel_counts: _Counts = 0
    # The PASS signal begins so long before the gate and ends so long after it, in the unit of travel.
    before: Annotated[float, Meta(ge=0, le=1_000_000)] = 10.0
    after: Annotated[float, Meta(ge=0, le=1_000_000)] = 20.0
    # With travel_counts the PASS signal lasts this long at most, milliseconds.
    pulse_ms: _Some = 200.0
    # A verdict must come so soon after its part was present, and in any case before the gate.
    deadline_ms: _Some = 500.0
    # Parts that may be between sensor and gate; the part that finds no room is rejected.
    max_parts: Annotated[int, Meta(ge=1, le=100_000)] = 1024


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[identity]`: what proves that a verdict is a part's own."""

    # "message": the part-present input gives the part's key. "time": there are no keys; the daemon's
    # trigger and the station's sensor must agree in time, and the counts of both.
    key: Literal["message", "time"] = "message"
    # How far trigger and presence may be apart, milliseconds. With keys it should be less than the time
    # between two parts, 0: as hold_ms. With "time" no other part or verdict may be within twice that.
    match_ms: _Ms = 0.0
    # The part is at the station's sensor so long after the camera's trigger; negative: before.
    match_offset_ms: Annotated[float, Meta(ge=-600_000, le=600_000)] = 0.0
    # With "time": so many counts in a row must agree before a part passes.
    resync_parts: Annotated[int, Meta(ge=1, le=1000)] = 3
    # A verdict that comes before its part waits so long, and so many of them.
    hold_ms: _Some = 200.0
    max_held: Annotated[int, Meta(ge=1, le=100_000)] = 256
    # Keys that are remembered, to know one that is used again.
    remember_keys: Annotated[int, Meta(ge=1, le=10_000_000)] = 10_000
    # What becomes of a part whose own PASS had come when the link is lost afterwards: "reject", or
    # with keys "keep", which passes it.
    link_loss: Literal["reject", "keep"] = "reject"


class LinePlug(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[present]`, `[encoder]` or `[confirm]`: a signal of the line."""

    # tcp://HOST:PORT or ipc://PATH (messages), gpio:///dev/gpiochip0?line=17&edge=rising&debounce_ms=1,
    # or another plug-in's; empty: there is none.
    uri: str = ""


class Confirm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[confirm]`: the sensor at the reject bin."""

    uri: str = ""
    # "reject": every rejected part must be seen there, else the line is stopped. "none": not asked for.
    what: Literal["none", "reject"] = "none"
    # So long after it has left the gate.
    within_ms: _Some = 1000.0


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[output]`: what opens the gate."""

    # tcp:// or ipc:// (messages), or gpio:///dev/gpiochip0?pass=5&heartbeat=6&line_stop=13
    uri: str
    # Between two signs of life; without them the gate rejects. Milliseconds.
    heartbeat_ms: Annotated[float, Meta(ge=1, le=60_000)] = 100.0


class StationLog(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[log]`: verdicts, actions and alarms, in STATE_DIR/station.db."""

    # Hours of the station's running time, and megabytes; the oldest goes first.
    retention_hours: Annotated[float, Meta(gt=0, le=1_000_000)] = 2000.0
    max_megabytes: Annotated[float, Meta(ge=1, le=1_000_000)] = 500.0


class GateMetrics(MetricsEndpoint, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[metrics]`, on a port of its own beside the daemon's."""

    port: Annotated[int, Meta(ge=0, le=65535)] = 9571


class Gate(CompanionFile, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole gate.toml."""

    schema: Literal[1]
    # The `station` of the daemons' station files; verdicts of another are rejected.
    station: Name
    # Verdicts about another product are rejected; empty: any product.
    product: str = ""
    state_dir: str = "gate-state"
    source: Annotated[tuple[VerdictSource, ...], Meta(min_length=1, max_length=16)]
    belt: Belt
    identity: Identity = msgspec.field(default_factory=Identity)
    present: LinePlug
    encoder: LinePlug = msgspec.field(default_factory=LinePlug)
    confirm: Confirm = msgspec.field(default_factory=Confirm)
    output: Output
    log: StationLog = msgspec.field(default_factory=StationLog)
    curve: OwnKey = msgspec.field(default_factory=OwnKey)
    metrics: GateMetrics = msgspec.field(default_factory=GateMetrics)


def load_gate(path: str | Path) -> Gate:
    """Read and check a gate.toml. Raises ConfigError that names file, key, value and bound."""
    return parse_gate(read_toml(Path(path), "file", "edge-ad init --gate"), str(path))


def parse_gate(data: dict[str, Any], path: str = "") -> Gate:
    """Check an already parsed file. `path` is used in messages and to resolve relative paths."""
    gate = parse_file(data, Gate, path)
    problem = _problem(gate)
    if problem:
        raise ConfigError(f"{gate.where}: {problem}")
    return gate


def _problem(gate: Gate) -> str:
    """What one key contradicts in another; "" when nothing does."""
    names = [source.name for source in gate.source]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        return f"source name {twice[0]!r} is used twice; names are unique"
    if not any(source.required for source in gate.source):
        return "source: none is required, so nothing would be asked to pass; set required of one"
    if not gate.present.uri:
        return "present.uri: without a part-present input nothing can pass; give one"
    belt, identity = gate.belt, gate.identity
    if bool(belt.travel_ms) == bool(belt.travel_counts):
        have = "both travel_ms and travel_counts" if belt.travel_ms else "neither of them"
        return f"belt.travel_ms or belt.travel_counts: have {have}; give one of them"
    travel = belt.travel_ms or belt.travel_counts
    if travel < 2 * belt.before + belt.after:
        return (
            f"belt.before and belt.after: {belt.before:g} and {belt.after:g} reach from the gate to the "
            f"sensor at {travel:g}, so a PASS could begin before the next part is seen; give less"
        )
    if belt.travel_counts and not (belt.before.is_integer() and belt.after.is_integer()):
        return "belt.before and belt.after: are whole counts with travel_counts"
    if identity.key == "time" and not identity.match_ms:
        return "identity.match_ms: with key 'time' it is what proves which part is which; give one"
    if identity.key == "time" and identity.link_loss == "keep":
        return "identity.link_loss: 'keep' needs keys; remove it with key 'time'"
    for source in gate.source:
        if source.lost_ms < 2 * source.heartbeat_ms:
            return (
                f"source {source.name!r}: lost_ms: {source.lost_ms:g} is less than two heartbeats of "
                f"{source.heartbeat_ms:g}, so the link would be taken for lost all the time; give more"
            )
        if source.server_key and not gate.curve.secret:
            return (
                f"source {source.name!r}: server_key: needs an own key besides; set curve.secret "
                "('edge-ad keys new gate -o keys/' makes one)"
            )
    if gate.confirm.what == "reject" and not gate.confirm.uri:
        return "confirm.uri: with what = 'reject' the sensor at the reject bin is needed; give its uri"
    return ""
