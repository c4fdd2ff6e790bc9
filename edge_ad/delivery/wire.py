"""What goes over the wire: message structs, their version, and how they become bytes.

A message of the scores channel has three frames, `topic | header | body`; header and body are JSON.
A reader ignores fields it does not know and refuses a major version it does not know, so a newer
daemon may add fields without breaking an older reader.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from edge_ad.errors import DeliveryError

T = TypeVar("T")
VERSION = "1.1"
SCORES = "scores"  # every part
REJECTS = "rejects"  # REJECT and FAULT
SYNC = "sync"  # the echo of a control `sync`; the header frame is the token
# What MessagePack and SQLite can hold, with room to count on: more is no message.
Integer = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]


class Header(msgspec.Struct, frozen=True):
    """Who the message is about. The same bytes go out on every topic."""

    v: str
    station: str
    epoch: str  # new at every start of the daemon; orders by start time
    seq: Integer  # counts the parts of this epoch from 1: a gap is a lost message
    part: str
    t_trigger_ns: Integer  # the daemon machine's monotonic clock
    t_wall_ns: Integer  # a label, never a deadline
    product: str
    bundle: str  # sha256 of the bundle's manifest; "" without a bundle
    trigger: str = "free"  # what made the part: free, line, message or software
    count: Integer | None = None  # triggers counted so far by the camera, or by the source of messages
    encoder: Integer | None = None  # counts of the line's encoder at the trigger
    advisory: bool = False  # no trigger proves that this frame is a part: nothing may act on it


class PoseBody(msgspec.Struct, frozen=True):
    """Where a part lay against the reference part: pixels to the right and down, degrees
    counter-clockwise; quality: correlation with the reference."""

    dx: float
    dy: float
    angle: float
    scale: float
    quality: float


class FindingBody(msgspec.Struct, frozen=True):
    """One thing that stands out. x, y in pixels of the camera's frame, `mm` the same in millimetres,
    area in square pixels, peak in times what the zone may show; allowed: excused by its zone."""

    zone: str
    view: str
    x: float
    y: float
    area: float
    peak: float
    mm: tuple[float, float] | None = None
    area_mm2: float | None = None
    allowed: bool = False


class ScoreBody(msgspec.Struct, frozen=True):
    """What is said about the part. Numbers that do not exist are null."""

    verdict: str  # PASS, REJECT or FAULT
    reason: str  # a Reason value; "" for PASS
    score: float | None = None
    threshold: float | None = None
    view: str = ""  # the worst view
    latency_ms: float = 0.0  # trigger to verdict
    rejects: int = 0  # REJECT and FAULT parts of this epoch so far: a gap on `rejects` is a lost message
    distances: list[list[float]] | None = None  # tiles x levels
    detail: str = ""
    box: tuple[int, int, int, int] | None = None  # x, y, width, height that decided, frame pixels
    poses: list[PoseBody | None] | None = None  # per camera of the bundle
    findings: list[FindingBody] | None = None  # of a part above the threshold
    engine: str = ""  # "openvino-f32"; "" without a bundle
    degraded: bool = False  # another engine than the station's, which failed
    line_stop: bool = False  # so many parts in a row were FAULT that the line should stop
    challenge: bool = False  # a known part of a challenge: no yield


class Request(msgspec.Struct, frozen=True):
    """A question to the daemon over the control socket."""

    v: str
    id: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    command: str
    args: dict[str, Any] = {}


class Reply(msgspec.Struct, frozen=True):
    """The daemon's answer: `result` when `ok`, else `error` in words."""

    v: str
    id: int
    ok: bool
    result: dict[str, Any] = {}
    error: str = ""


_encoder = msgspec.json.Encoder()
_headers = msgspec.json.Decoder(Header)
_bodies = msgspec.json.Decoder(ScoreBody)
_requests = msgspec.json.Decoder(Request)
_replies = msgspec.json.Decoder(Reply)
_lines = msgspec.json.Decoder(dict[str, msgspec.Raw])


def encode(message: Header | ScoreBody | Request | Reply) -> bytes:
    """JSON of one message; NaN and infinity become null. Thread safe."""
    return _encoder.encode(message)


def decode_header(data: bytes) -> Header:
    """Raises DeliveryError for bytes that are no header and for another major version."""
    header = decode(_headers, data, "header")
    check_version(header.v, "message")
    return header


def decode_body(data: bytes) -> ScoreBody:
    """Raises DeliveryError for bytes that are no score body."""
    return decode(_bodies, data, "body")


def decode_request(data: bytes) -> Request:
    """Raises DeliveryError for garbage and for another major version."""
    request = decode(_requests, data, "request")
    check_version(request.v, "request")
    return request


def decode_reply(data: bytes) -> Reply:
    """Raises DeliveryError for garbage and for another major version."""
    reply = decode(_replies, data, "reply")
    check_version(reply.v, "reply")
    return reply


def journal_line(header: bytes, body: bytes) -> bytes:
    """One line of a journal: the very bytes that were published."""
    return b'{"header":' + header + b',"body":' + body + b"}\n"


def read_journal_line(line: bytes) -> tuple[Header, ScoreBody]:
    """The inverse of `journal_line`. Raises DeliveryError."""
    parts = decode(_lines, line, "journal line")
    try:
        return decode_header(bytes(parts["header"])), decode_body(bytes(parts["body"]))
    except KeyError as error:
        raise DeliveryError(f"journal line without {error}; is the file an edge_ad journal?") from error


def decode(decoder: msgspec.json.Decoder[T], data: bytes, what: str) -> T:
    """Raises DeliveryError for bytes that are no `what`."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DeliveryError(f"{what} is not understood ({error}); the sender is no edge_ad") from error


def check_version(version: str, what: str) -> None:
    """Raises DeliveryError for another major version than this program's."""
    if version.partition(".")[0] != VERSION.partition(".")[0]:
        raise DeliveryError(
            f"{what} has protocol version {version!r}, this program speaks {VERSION!r}; "
            "upgrade the older side"
        )
