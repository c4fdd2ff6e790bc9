"""What of the station file says how verdicts leave the daemon, and how parts are announced to it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Trigger(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[trigger]`: what makes a part."""

    # "free": every frame that is accepted is a part; verdicts are advisory. "line": the cameras are
    # triggered by the line, every trigger is a part. "message": a request over `endpoint` announces each
    # part by its key. "software": the daemon triggers, every `period_ms` or when `edge-ad trigger` asks.
    kind: Literal["free", "line", "message", "software"] = "free"
    # Of kind "message". Empty: ipc://STATE_DIR/trigger.sock
    endpoint: str = ""
    # Of kind "software": milliseconds between two parts; 0: only when asked.
    period_ms: Annotated[float, Meta(ge=0, le=600_000)] = 0.0
    # Parts that may wait for inspection; the part that finds no room is FAULT `overflow`.
    queue: Annotated[int, Meta(ge=1, le=1024)] = 16
    # A frame that comes later than this after its trigger is not its part's: FAULT `no_frame`.
    frame_ms: Annotated[float, Meta(gt=0, le=600_000)] = 200.0


class Verdicts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[verdicts]`: the acknowledged ZeroMQ channel, which loses nothing. Off without consumers."""

    # Empty: ipc://STATE_DIR/verdicts.sock
    endpoint: str = ""
    # Names of those who acknowledge every verdict, as the station at the gate; others are refused.
    consumers: Annotated[tuple[Name, ...], Meta(max_length=16)] = ()
    # Verdicts that every consumer has acknowledged are kept for so long.
    retention_hours: Annotated[float, Meta(ge=0, le=100_000)] = 24.0
    # What the outbox may take on disk; beyond, the oldest goes, acknowledged or not, counted. Megabytes.
    max_megabytes: Annotated[float, Meta(ge=1, le=1_000_000)] = 500.0
    # Between two signs of life, and without one for so long the other side is gone. Milliseconds.
    heartbeat_ms: Annotated[float, Meta(ge=10, le=60_000)] = 500.0
    lost_ms: Annotated[float, Meta(ge=20, le=600_000)] = 1500.0


class Scores(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[scores]`: the lossy ZeroMQ PUB channel."""

    endpoint: str = "tcp://127.0.0.1:5570"
    # Records that may wait for the publisher before the oldest is dropped and counted.
    backlog: Annotated[int, Meta(ge=16, le=1_000_000)] = 10_000
    # ZeroMQ's own per-subscriber queue, messages.
    high_water_mark: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[control]`: the socket that `edge-ad calibrate` and `bundle activate` talk to the daemon over."""

    # Empty: ipc://STATE_DIR/control.sock
    endpoint: str = ""


class MetricsEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[metrics]`: the Prometheus endpoint. Port 0 takes a free one and logs it."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 9570
