"""What of the station file says how verdicts leave the daemon, and how parts are announced to it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
_Place = Annotated[int, Meta(ge=0)]
_Side = Annotated[int, Meta(ge=1)]


class Present(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[trigger.present]`, of kind "free": a part is the first frame after the mean grey of a region
    came above, or below, a level. Other frames are not inspected."""

    camera: Name
    # x, y, width, height in frame pixels.
    roi: tuple[_Place, _Place, _Side, _Side]
    # On which side of `grey`, 0 to 255, its mean is while a part is there.
    side: Literal["above", "below"] = "above"
    grey: Annotated[float, Meta(ge=0, le=255)] = 60.0
    # How far back it must go before the next part may begin. Grey.
    hysteresis: Annotated[float, Meta(ge=0, le=255)] = 8.0
    # Frames to wait until the part is where it is inspected.
    delay_frames: Annotated[int, Meta(ge=0, le=1000)] = 0


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
    # A frame that comes later than this after its trigger is not its part's: FAULT `no_frame`. Where
    # cameras are not triggered by the daemon, frame_ms + early_ms must be less than the time between two
    # parts.
    frame_ms: Annotated[float, Meta(gt=0, le=600_000)] = 200.0
    # A camera that the line triggers may be so much earlier than the message that announces the part.
    early_ms: Annotated[float, Meta(ge=0, le=60_000)] = 20.0
    # After so many FAULT in a row the line is asked to stop, until a part is judged; 0: never.
    line_stop_after: Annotated[int, Meta(ge=0, le=100_000)] = 10
    # Absent: every frame of a free-running camera is a part, and nothing proves that it shows one.
    present: Present | None = None


class Verdicts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[verdicts]`: the acknowledged ZeroMQ channel, which loses nothing. Off without consumers."""

    # Empty: ipc://STATE_DIR/verdicts.sock
    endpoint: str = ""
    # Names of those who acknowledge every verdict, as the station at the gate; others are refused.
    consumers: Annotated[tuple[Name, ...], Meta(max_length=16)] = ()
    # Verdicts that every consumer has acknowledged are kept for so long, while the daemon runs: a clock
    # that jumps takes nothing.
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


class Curve(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[curve]`: keys of the ZeroMQ sockets on TCP. Needed for an address of the network; where they are
    set, loopback addresses ask for them too. ipc sockets have `group` instead."""

    # The station's own secret key, as 'edge-ad keys new' writes it. Empty: no CURVE.
    secret: str = ""
    # A directory with the public key (NAME.key) of each client that is let in. Empty: none but the
    # station's own commands.
    clients: str = ""


class OwnKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[curve]`: who this program is to daemons with keys."""

    # Its own secret key, as 'edge-ad keys new' writes it; the daemon has the public one among its
    # clients.
    secret: str = ""


class MetricsEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[metrics]`: the Prometheus endpoint. Port 0 takes a free one and logs it."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 9570
