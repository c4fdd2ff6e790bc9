"""A consumer of the verdict channel, as the station at the gate is one, and what it is told."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import zmq

from edge_ad.delivery import channel
from edge_ad.delivery.channel import Ack, Beat, Bye, Denied, Gone, Hello, Told, Welcome
from edge_ad.delivery.curve import Keys, apply_client
from edge_ad.delivery.endpoint import notice_loss
from edge_ad.delivery.wire import Header, ScoreBody
from edge_ad.errors import DeliveryError


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The daemon has answered, in this epoch. Its monotonic clock is the consumer's plus `offset_ns`,
    known to within `uncertainty_ns`."""

    station: str
    product: str
    epoch: str
    offset_ns: int
    uncertainty_ns: int


@dataclass(frozen=True, slots=True)
class LinkDown:
    """Nothing is heard of the daemon, and why; it is looked for until it is back."""

    why: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """A verdict, in order and once. `live`: it was given just now; else it is told again, for the record
    only."""

    header: Header
    body: ScoreBody
    live: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """Verdicts of an epoch that the daemon no longer has, first to last; last 0: to its end, which is
    not known."""

    epoch: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The daemon does not talk to this consumer, in words: another took its name, unknown, version."""

    why: str


Event = LinkUp | LinkDown | Delivered | Lost | Refused

_MOST = 256  # messages that one `receive` takes
_UNSENT = 64  # of Hello and what else is said while nobody listens
_EPOCHS = 4096  # remembered, to know a duplicate
_SAMPLES = 16  # of the clock, of which the best counts
_ALL = 1 << 62  # of an epoch


class VerdictConsumer:
    """Takes every verdict of a daemon in order and once, and comes back by itself for ever.

    `position`: (epoch, seq) of what was committed last here; None: what the daemon knows to have been
    acknowledged under this name. `credit`: how many verdicts may be unacknowledged at once. `keys`
    are needed where the daemon has [curve] and the endpoint is TCP. For one thread; raises nothing but
    DeliveryError for an endpoint that is none.
    """

    def __init__(
        self,
        endpoint: str,
        consumer: str,
        position: tuple[str, int] | None = None,
        *,
        credit: int = 64,
        heartbeat_ms: float = 500.0,
        lost_ms: float = 1500.0,
        clock: Callable[[], int] = time.monotonic_ns,
        keys: Keys | None = None,
        encoding: channel.Encoding = "msgpack",
    ) -> None:
        self.skipped = 0  # messages that were not understood
        self.duplicates = 0
        self._name = consumer
        self._credit = credit
        self._heartbeat_ns, self._lost_ns = int(heartbeat_ms * 1e6), int(lost_ms * 1e6)
        self._clock = clock
        self._encoding = encoding
        self._instance = secrets.token_hex(8)
        self._acked = position
        self._order: dict[str, int] = {} if position is None else {position[0]: 0}
        self._had: tuple[int, int] | None = None if position is None else (0, position[1])
        self._gap: tuple[str, int] | None = None  # at which Hello was said again
        self._up = False
        self._epoch = ""  # of the daemon that answered last
        self._awaiting = False  # a Welcome
        self._ack_due = False  # one did not go out
        self._nonce = 0
        self._heard_ns = self._beat_ns = 0
        self._hello_ns = -_ALL  # when the next one is due
        self._why = ""  # it was refused
        self._samples: deque[tuple[int, int]] = deque(maxlen=_SAMPLES)
        self._events: list[Event] = []
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        try:
            notice_loss(self.socket)
            for option, value in (
                (zmq.LINGER, 100), (zmq.SNDHWM, _UNSENT), (zmq.RECONNECT_IVL, 50),
                (zmq.RECONNECT_IVL_MAX, 500), (zmq.RCVHWM, 2 * max(credit, 500)),
            ):  # fmt: skip
                self.socket.setsockopt(option, value)
            apply_client(self.socket, keys, endpoint)
            self.socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.socket.close()
            raise DeliveryError(
                f"{endpoint}: not an endpoint ({error}); use the daemon's verdicts.endpoint"
            ) from error

    @property
    def clock_offset(self) -> tuple[int, int]:
        """What the daemon's monotonic clock is ahead of this one, and how far that may be off; ns. By
        the quickest of the last round trips."""
        return min(self._samples, key=lambda sample: sample[1], default=(0, _ALL))

    def receive(self) -> list[Event]:
        """What is new; never blocks. To be called when `socket` is readable, and at least once every
        heartbeat: the link is kept alive here."""
        for _ in range(_MOST):
            try:
                frames = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            self._take(frames)
        self._keep_alive(self._clock())
        events, self._events = self._events, []
        return events

    def ack(self, epoch: str, seq: int) -> None:
        """Everything up to here is committed on this side, and will never be told again."""
        self._acked = (epoch, seq)
        self._ack_due = self._up and not self._send(Ack(epoch, seq))

    def close(self) -> None:
        """Idempotent."""
        if not self.socket.closed:
            if self._up:
                self._send(Bye("closed"))
            self.socket.close()

    def _keep_alive(self, now: int) -> None:
        if self._up and now - self._heard_ns > self._lost_ns:
            self._go_down(f"nothing heard of the daemon for {self._lost_ns / 1e9:g} s")
        if self._ack_due and self._acked is not None:
            self._ack_due = self._up and not self._send(Ack(*self._acked))
        if self._up and not self._awaiting and now >= self._beat_ns and self._send(Beat(now)):
            self._beat_ns = now + self._heartbeat_ns
        if (self._awaiting or not self._up) and now >= self._hello_ns:
            self._say_hello(now)

    def _say_hello(self, now: int) -> None:
        epoch, seq = self._acked or ("", 0)
        encodings = (self._encoding, *(e for e in channel.ENCODINGS if e != self._encoding))
        hello = Hello(
            channel.VERSION, self._name, self._instance, self._nonce + 1, encodings, epoch, seq,
            self._credit, now,
        )  # fmt: skip
        if self._send(hello):  # else nobody has listened for long
            self._nonce += 1
            self._awaiting = True
            self._hello_ns = now + self._heartbeat_ns

    def _send(self, message: channel.FromConsumer) -> bool:
        try:
            # JSON before it is known what the daemon reads.
            encoding = "json" if isinstance(message, Hello) else self._encoding
            self.socket.send(channel.encode(message, encoding), zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def _take(self, frames: list[bytes]) -> None:
        try:
            if len(frames) != 1:
                raise DeliveryError(f"{len(frames)} frames instead of one")
            message = channel.decode_from_daemon(frames[0])
        except DeliveryError:
            self.skipped += 1
            return
        now = self._clock()
        self._heard_ns = now
        if isinstance(message, Welcome):
            self._welcome(message, now)
        elif isinstance(message, Denied):
            self._refused(message.why, now)
        elif isinstance(message, Bye):
            if self._up and not self._awaiting:
                self._go_down(f"the daemon ended the link ({message.why})")
        elif not self._up or self._awaiting:
            return  # of the link before this one
        elif isinstance(message, Told):
            self._told(message, now)
        elif isinstance(message, Gone):
            self._gone(message.epoch, message.first, message.last or _ALL)
        elif message.echo_ns:
            self._sample(message.echo_ns, message.received_ns, message.sent_ns, now)

    def _welcome(self, welcome: Welcome, now: int) -> None:
        if not self._awaiting or welcome.nonce != self._nonce:
            return  # the answer to a Hello that was given up
        if not channel.same_major(welcome.v):
            self._refused(
                f"the daemon speaks version {welcome.v!r} of the verdict channel, this consumer "
                f"{channel.VERSION!r}; upgrade the older side",
                now,
            )
            return
        if self._up and welcome.epoch != self._epoch:  # while a gap was asked for
            self._go_down("the daemon has started anew")
        again = self._up
        self._epoch = welcome.epoch
        self._awaiting, self._up, self._why = False, True, ""
        self._heartbeat_ns = min(self._heartbeat_ns, int(welcome.heartbeat_ms * 1e6))
        self._beat_ns = now  # a second sample of the clock at once: the first waited for a connection
        if not again:
            self._samples.clear()
        self._sample(welcome.echo_ns, welcome.received_ns, welcome.sent_ns, now)
        if not again:
            up = LinkUp(welcome.station, welcome.product, welcome.epoch, *self.clock_offset)
            self._events.append(up)

    def _sample(self, asked: int, received: int, answered: int, now: int) -> None:
        """One round trip, as NTP has it."""
        offset = (received - asked + answered - now) // 2
        self._samples.append((offset, max(0, (now - asked - answered + received + 1) // 2)))

    def _refused(self, why: str, now: int) -> None:
        self._awaiting = False
        self._hello_ns = now + self._lost_ns
        self._go_down(why)
        if why != self._why:
            self._why = why
            self._events.append(Refused(why))

    def _go_down(self, why: str) -> None:
        if self._up:
            self._up = self._awaiting = False
            self._events.append(LinkDown(why))

    def _told(self, told: Told, now: int) -> None:
        epoch, seq = told.header.epoch, told.header.seq
        place = self._order.get(epoch)
        had = self._had
        if had is not None and place is not None and (place, seq) <= had:
            self.duplicates += 1
            return
        expected = had[1] + 1 if had is not None and place == had[0] else 1
        if had is not None and seq != expected:
            if self._gap != (epoch, seq):  # what is missing is asked for once
                self._gap = (epoch, seq)
                self._awaiting, self._hello_ns = True, now
                self._say_hello(now)
                return
            self._events.append(Lost(epoch, expected, seq - 1))
        self._gap = None
        self._had = (self._place(epoch), seq)
        self._events.append(Delivered(told.header, told.body, told.live))

    def _gone(self, epoch: str, first: int, last: int) -> None:
        place = self._place(epoch)
        had = self._had
        if had is not None and (place, last) <= had:
            return  # had before they went
        if had is not None and place == had[0]:
            first = max(first, had[1] + 1)
        self._had = (place, last)
        self._events.append(Lost(epoch, first, 0 if last == _ALL else last))

    def _place(self, epoch: str) -> int:
        """Of an epoch among those that were told of, in their order."""
        if epoch not in self._order:
            self._order[epoch] = 1 + max(self._order.values(), default=-1)
            if len(self._order) > _EPOCHS:
                del self._order[next(iter(self._order))]
        return self._order[epoch]
