"""Messages of the verdict channel, one frame each: `type` and fields, as JSON or MessagePack.

The consumer (DEALER) says Hello with the position that it has committed; the daemon (ROUTER) answers
Welcome and sends what follows, never more unacknowledged than the consumer's credit. Every message says
by its first byte how it is encoded. Unknown fields are ignored, an unknown major version is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from edge_ad.delivery.wire import Header, Integer, ScoreBody
from edge_ad.errors import DeliveryError

VERSION = "1.0"
Encoding = Literal["json", "msgpack"]
ENCODINGS: tuple[Encoding, ...] = ("msgpack", "json")
MOST_CREDIT = 1024
LARGEST = 16_384  # bytes of what a consumer may say
_Milliseconds = Annotated[float, msgspec.Meta(ge=1, le=600_000)]


class _Message(msgspec.Struct, frozen=True, tag=str.lower, tag_field="type"):
    pass


class Hello(_Message, frozen=True):
    """Consumer: who I am, what I have committed, what I can read. `instance` tells two consumers with
    one name from one that comes back; `nonce` comes back in the Welcome. `epoch` "": whatever I
    acknowledged last, as the daemon remembers it."""

    v: str
    consumer: str
    instance: str
    nonce: Integer
    encodings: tuple[str, ...] = ("json",)
    epoch: str = ""
    seq: Integer = 0
    credit: Integer = 64
    sent_ns: Integer = 0  # monotonic clock of the consumer's machine


class Welcome(_Message, frozen=True):
    """Daemon: what this is, in which epoch, and its monotonic clock as the Hello came and as this
    goes."""

    v: str
    station: str
    product: str
    epoch: str
    nonce: Integer
    encoding: str = "json"
    heartbeat_ms: _Milliseconds = 500.0
    lost_ms: _Milliseconds = 1500.0
    echo_ns: Integer = 0
    received_ns: Integer = 0
    sent_ns: Integer = 0


class Told(_Message, frozen=True, tag="verdict"):
    """Daemon: a verdict; `live`: it was given just now."""

    live: bool
    header: Header
    body: ScoreBody


class Gone(_Message, frozen=True):
    """Daemon: verdicts that it does not keep any more. `last` 0: to the end of an epoch that it does not
    know."""

    epoch: str
    first: Integer
    last: Integer


class Ack(_Message, frozen=True):
    """Consumer: I have committed everything up to here."""

    epoch: str
    seq: Integer


class Beat(_Message, frozen=True):
    """Either side: I live. The daemon's answers a consumer's, and takes its time along."""

    sent_ns: Integer
    echo_ns: Integer = 0  # sent_ns of the Beat that this answers
    received_ns: Integer = 0


class Denied(_Message, frozen=True):
    """Daemon: I do not talk to you, why in words, and as one of a closed list: version, consumer,
    encoding, replaced."""

    reason: str
    why: str


class Bye(_Message, frozen=True):
    """Either side: the link ends, or is not known; say Hello."""

    why: str = ""


FromConsumer = Hello | Ack | Beat | Bye
FromDaemon = Welcome | Told | Gone | Beat | Denied | Bye

_json, _msgpack = msgspec.json.Encoder(), msgspec.msgpack.Encoder()
_consumer_json: msgspec.json.Decoder[FromConsumer] = msgspec.json.Decoder(FromConsumer)
_consumer_msgpack: msgspec.msgpack.Decoder[FromConsumer] = msgspec.msgpack.Decoder(FromConsumer)
_daemon_json: msgspec.json.Decoder[FromDaemon] = msgspec.json.Decoder(FromDaemon)
_daemon_msgpack: msgspec.msgpack.Decoder[FromDaemon] = msgspec.msgpack.Decoder(FromDaemon)
_any = msgspec.json.Decoder()


def encode(message: FromConsumer | FromDaemon, encoding: str) -> bytes:
    """Thread safe."""
    return _json.encode(message) if encoding == "json" else _msgpack.encode(message)


def encode_told(header: bytes, body: bytes, live: bool, encoding: str) -> bytes:
    """A verdict of which the JSON exists. Raises MsgspecError or ValueError where that is damaged."""
    if encoding == "json":
        if not live:  # it has been on the disk
            _any.decode(header), _any.decode(body)
        flag = b"true" if live else b"false"
        return b'{"type":"verdict","live":' + flag + b',"header":' + header + b',"body":' + body + b"}"
    said: dict[str, Any] = {"type": "verdict", "live": live}
    return _msgpack.encode(said | {"header": _any.decode(header), "body": _any.decode(body)})


def decode_from_consumer(data: bytes) -> FromConsumer:
    """Raises DeliveryError for what is no message."""
    try:
        return _consumer_json.decode(data) if data[:1] == b"{" else _consumer_msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DeliveryError(f"not understood ({error}); the sender is no consumer") from error


def decode_from_daemon(data: bytes) -> FromDaemon:
    """Raises DeliveryError for what is no message."""
    try:
        return _daemon_json.decode(data) if data[:1] == b"{" else _daemon_msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DeliveryError(f"not understood ({error}); the sender is no edge_ad daemon") from error


def same_major(version: str) -> bool:
    """Whether the other side can be talked to."""
    return version.partition(".")[0] == VERSION.partition(".")[0]
