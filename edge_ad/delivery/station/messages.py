"""Signals of the line as messages, JSON over ZeroMQ PUSH/PULL: to the station, and from it to a gate.

Whoever receives binds. Senders keep nothing for a receiver that is away: a part that is announced to a
dead station, or a PASS to a dead gate, is gone, and the part is rejected. `Announcer` and `GateReceiver`
are the other ends, for a program at the sensor or at the gate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, TypeVar

import msgspec
import zmq

from edge_ad.delivery.endpoint import NEVER_REMOTE, bind
from edge_ad.errors import DeliveryError, EdgeAdError

VERSION = "1.0"
_MOST_WAITING = 64
_LARGEST = 65_536  # bytes of a message
_DRIFT = 200e-6  # of two machines' clocks against each other, at most


class LineMessage(msgspec.Struct, frozen=True, kw_only=True):
    """To the station: a part is `present`, the `encoder` stands at a count, something was seen in the
    reject bin (`confirm`). `t_ns`: when, by the monotonic clock of the station's own machine; without
    it the moment of arrival counts."""

    kind: Literal["present", "encoder", "confirm"] = "present"
    part: str | None = None
    encoder: int | None = None
    t_ns: int | None = None
    v: str = VERSION


class GateMessage(msgspec.Struct, frozen=True, kw_only=True):
    """From the station.

    `pass`: the part may pass from `from_ns` to `until_ns`, which may be told ahead of time, unless
    `revoke` or `reject` takes it back; `valid_ms`: what is left until then. `shut` ends all of them,
    `beat` is the sign of life, without which the gate rejects; `link`: whether every daemon that is
    needed is heard. Times are the station's monotonic clock, `sent_ns` when it was sent.
    """

    kind: Literal["pass", "reject", "revoke", "shut", "beat", "line_stop"]
    n: int  # counts the messages of this run from 1
    run: str  # names this run of the station; a new one has promised nothing
    sent_ns: int
    key: str = ""
    number: int = 0
    from_ns: int = 0
    until_ns: int = 0
    valid_ms: float = 0.0
    why: str = ""
    on: bool = False  # the line-stop output
    link: bool = False
    state: str = ""
    v: str = VERSION


T = TypeVar("T", LineMessage, GateMessage)
_lines = msgspec.json.Decoder(LineMessage)
_gates = msgspec.json.Decoder(GateMessage)


def encode(message: LineMessage | GateMessage) -> bytes:
    """JSON of one message."""
    return msgspec.json.encode(message)


def decode_line(data: bytes) -> LineMessage:
    """Raises DeliveryError for garbage and another major version."""
    return _checked(_lines, data)


def decode_gate(data: bytes) -> GateMessage:
    """Raises DeliveryError for garbage and another major version."""
    return _checked(_gates, data)


def _checked(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    try:
        message = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DeliveryError(f"message is not understood ({error}); the sender is no station") from error
    if message.v.partition(".")[0] != VERSION.partition(".")[0]:
        raise DeliveryError(
            f"message has version {message.v!r}, this program speaks {VERSION!r}; upgrade the older side"
        )
    return message


def push_socket(endpoint: str) -> zmq.Socket[bytes]:
    """A sender that keeps nothing for a receiver that is away. Raises DeliveryError."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
    for option, value in (
        (zmq.LINGER, 100), (zmq.IMMEDIATE, 1), (zmq.SNDHWM, _MOST_WAITING), (zmq.RECONNECT_IVL, 20),
        (zmq.RECONNECT_IVL_MAX, 100),
    ):  # fmt: skip
        socket.setsockopt(option, value)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise DeliveryError(f"{endpoint}: not an endpoint ({error}); give ipc:// or tcp://") from error
    return socket


def pull_socket(endpoint: str, key: str) -> zmq.Socket[bytes]:
    """A receiver, bound. Raises DeliveryError, and ConfigError for an address of the network."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, _LARGEST)  # more ends the connection
    try:
        bind(socket, endpoint, key, NEVER_REMOTE)
    except EdgeAdError:
        socket.close()
        raise
    return socket


def try_send(socket: zmq.Socket[bytes], data: bytes) -> bool:
    """Send without waiting; False: nobody has room for it.

    ZeroMQ looks only now and then for what the other side has read, and calls a queue full meanwhile;
    asking whether there is room makes it look.
    """
    for _ in range(2):
        try:
            socket.send(data, zmq.DONTWAIT)
        except zmq.Again:
            if not socket.poll(0, zmq.POLLOUT):
                return False
        else:
            return True
    return False


class Announcer:
    """Tells a station of the same machine what the line's sensors see. Not thread safe; never blocks."""

    def __init__(self, endpoint: str, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._socket = push_socket(endpoint)

    def wait(self, timeout_s: float = 5.0) -> bool:
        """Until the station is there; what is announced before that is gone."""
        return bool(self._socket.poll(int(timeout_s * 1000), zmq.POLLOUT))

    def present(self, part: str | None, encoder: int | None = None) -> bool:
        """A part is at the station's sensor now; False: nobody heard it."""
        return self.send(LineMessage(part=part, encoder=encoder, t_ns=self._clock()))

    def encoder(self, count: int) -> bool:
        """The encoder stands at `count` now."""
        return self.send(LineMessage(kind="encoder", encoder=count, t_ns=self._clock()))

    def confirm(self) -> bool:
        """Something was seen in the reject bin now."""
        return self.send(LineMessage(kind="confirm", t_ns=self._clock()))

    def send(self, message: LineMessage) -> bool:
        """Any message; False: nobody heard it."""
        return try_send(self._socket, encode(message))

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()


class GateReceiver:
    """A gate's side, bound at the station's output.uri: which parts may pass now. Not thread safe.

    `may_pass(key)` is True only within the time of a PASS of that very part, while the heartbeat is
    there. `same_clock`: gate and station share a machine; else the station's clock is told from when
    messages arrive, the quickest counting, and followed as far as clocks drift.
    """

    def __init__(
        self,
        endpoint: str,
        lost_ms: float = 500.0,
        clock: Callable[[], int] = time.monotonic_ns,
        same_clock: bool = True,
    ) -> None:
        self.line_stop = False
        self.skipped = 0
        self._lost_ns = int(lost_ms * 1e6)
        self._clock = clock
        self._same_clock = same_clock
        self._behind: int | None = 0 if same_clock else None
        self._told_ns = 0  # when `_behind` was
        self._run = ""
        self._beat_ns: int | None = None
        self._valid: dict[str, tuple[int, int]] = {}
        self.socket = pull_socket(endpoint, "output.uri")

    def receive(self, timeout_s: float = 0.0) -> list[GateMessage]:
        """What has come, after waiting at most so long for the first."""
        messages: list[GateMessage] = []
        if timeout_s and not self.socket.poll(int(timeout_s * 1000)):
            return messages
        while self.socket.poll(0):
            try:
                message = decode_gate(self.socket.recv())
            except DeliveryError:
                self.skipped += 1
                continue
            messages.append(message)
            self._obey(message, self._clock())
        return messages

    def may_pass(self, key: str) -> bool:
        """Whether this part may pass now."""
        now = self._clock()
        alive = self._beat_ns is not None and now - self._beat_ns <= self._lost_ns
        start, end = self._valid.get(key, (1, 0))
        return alive and not self.line_stop and start <= now <= end

    def close(self) -> None:
        """Idempotent."""
        self.socket.close()

    def _obey(self, message: GateMessage, now: int) -> None:
        if message.run != self._run:  # what another run promised, nobody takes back any more
            self._run = message.run
            self._valid.clear()
            self._behind = 0 if self._same_clock else None  # its machine may have begun to count anew
        behind = now - message.sent_ns
        if not self._same_clock:
            drifted = int((now - self._told_ns) * _DRIFT)
            self._behind = behind if self._behind is None else min(self._behind + drifted, behind)
            self._told_ns = now
        shift = self._behind or 0
        self._beat_ns = message.sent_ns + shift
        if message.kind == "pass":
            self._valid = {k: w for k, w in self._valid.items() if w[1] >= now}
            self._valid[message.key] = (message.from_ns + shift, message.until_ns + shift)
        elif message.kind in ("revoke", "reject"):
            self._valid.pop(message.key, None)
        elif message.kind == "shut":
            self._valid.clear()
        else:
            self.line_stop = message.on
