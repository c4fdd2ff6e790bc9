"""Who consumes verdicts, how far each one is, and what is sent to whom. For the thread of `verdicts`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import zmq

from edge_ad import failpoints
from edge_ad.delivery import channel
from edge_ad.delivery.channel import Ack, Beat, Bye, Denied, Gone, Hello, Welcome
from edge_ad.delivery.outbox import Kept, Outbox, Position
from edge_ad.errors import DeliveryError

REASONS = ("garbage", "version", "consumer", "encoding", "ack")
_REPLAY_ROWS = 32  # at once, so that a new verdict never waits long for old ones
_OUTDONE = 16  # instances remembered that another one replaced


@dataclass(slots=True)
class Counts:
    """Of one consumer."""

    sent: int = 0
    replayed: int = 0  # of them, such that were not live
    acked: int = 0
    replaced: int = 0


@dataclass(slots=True)
class _Session:
    identity: bytes
    name: str
    instance: str
    encoding: str
    credit: int
    cursor: Position  # of what was sent last
    heard_ns: int
    unacked: deque[Position] = field(default_factory=deque)


class Sessions:
    """`socket` is a ROUTER. Never blocks, whatever the other side does. `lost_ns`: a consumer that is
    silent for so long is gone. Counts may be read by any thread."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        outbox: Outbox,
        welcome: Callable[[], Welcome],
        lost_ns: int,
        clock: Callable[[], int],
        tell: Callable[[str, str], None],
    ) -> None:
        self.refused = dict.fromkeys(REASONS, 0)
        self.counts = {name: Counts() for name in outbox.consumers}
        self.damaged = 0  # times that a verdict was read which the disk has changed
        self._socket = socket
        self._outbox = outbox
        self._welcome = welcome
        self._lost_ns = lost_ns
        self._clock = clock
        self._tell = tell
        self._by_name: dict[str, _Session] = {}
        self._by_identity: dict[bytes, _Session] = {}
        self._outdone: deque[tuple[str, str]] = deque(maxlen=_OUTDONE)
        self._tip = outbox.last

    def is_up(self, name: str) -> bool:
        """Whether it is heard. Any thread."""
        return name in self._by_name

    def live(self, verdicts: Sequence[Kept]) -> None:
        """Send what was committed just now to everyone who has everything before it and has credit."""
        for kept in verdicts:
            for session in list(self._by_name.values()):
                if session.cursor >= self._tip and len(session.unacked) < session.credit:
                    self._send_verdict(session, kept, live=True)
            self._tip = kept.position

    def later(self, verdicts: Sequence[Kept]) -> None:
        """What was committed just now, but too late to be acted on: everyone gets it told again."""
        self._tip = verdicts[-1].position

    def catch_up(self) -> bool:
        """Send a little of what consumers lack, as far as their credit goes; whether any could get more
        at once."""
        more = False
        for session in list(self._by_name.values()):
            room = min(_REPLAY_ROWS, session.credit - len(session.unacked))
            if room <= 0 or session.cursor >= self._tip:
                continue
            verdicts = self._outbox.read(session.cursor, room)
            if not verdicts:  # all of it went, most of all such as this one had acknowledged
                self._tell_holes(session, (self._tip[0], self._tip[1] + 1))
                session.cursor = self._tip
            for kept in verdicts:
                if not self._send_verdict(session, kept, live=False):
                    break
            more = more or (session.cursor < self._tip and len(session.unacked) < session.credit)
        return more

    def receive(self, most: int) -> bool:
        """Do what consumers ask, at most so many messages; whether there may be more."""
        for _ in range(most):
            try:
                identity, *frames = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return False
            self._take(identity, frames)
        return True

    def drop_silent(self) -> None:
        """Forget whoever has not been heard for too long."""
        until = self._clock() - self._lost_ns
        for session in list(self._by_name.values()):
            if session.heard_ns < until:
                self._drop(session, f"not heard for {self._lost_ns / 1e9:g} s")

    def close(self, why: str) -> None:
        """Take leave of everyone."""
        for session in self._by_name.values():
            self._send(session.identity, Bye(why), session.encoding)

    def _take(self, identity: bytes, frames: list[bytes]) -> None:
        received_ns = self._clock()
        try:
            if len(frames) != 1:
                raise DeliveryError(f"{len(frames)} frames instead of one")
            message = channel.decode_from_consumer(frames[0])
        except DeliveryError:
            self.refused["garbage"] += 1  # unanswered: it costs us less than the sender
            return
        if isinstance(message, Hello):
            self._greet(identity, message, received_ns)
            return
        session = self._by_identity.get(identity)
        if session is None:
            if not isinstance(message, Bye):
                self._send(identity, Bye("say Hello"), "json")
            return
        session.heard_ns = received_ns
        if isinstance(message, Ack):
            self._acknowledge(session, message)
        elif isinstance(message, Beat):
            answer = Beat(self._clock(), message.sent_ns, received_ns)
            if not self._send(identity, answer, session.encoding):
                self._drop(session, "does not read, or its connection broke")
        else:
            self._drop(session, "said goodbye", "info")

    def _greet(self, identity: bytes, hello: Hello, received_ns: int) -> None:
        name, outbox = hello.consumer, self._outbox
        encoding = next((e for e in hello.encodings if e in channel.ENCODINGS), "")
        if not channel.same_major(hello.v):
            self._refuse(
                identity, "version",
                f"the consumer speaks version {hello.v!r} of the verdict channel, the daemon "
                f"{channel.VERSION!r}; upgrade the older side",
            )  # fmt: skip
        elif name not in outbox.consumers:
            self._refuse(
                identity, "consumer",
                f"no consumer is named {name!r}; add it to verdicts.consumers of the station file",
            )  # fmt: skip
        elif not encoding:
            self._refuse(
                identity, "encoding",
                f"none of the encodings {list(hello.encodings)[:8]} is known; have "
                f"{list(channel.ENCODINGS)}",
            )  # fmt: skip
        elif self._yields(identity, hello):
            credit = max(1, min(hello.credit, channel.MOST_CREDIT))
            session = _Session(
                identity, name, hello.instance, encoding, credit, self._begin(hello), received_ns
            )
            self._by_name[name] = self._by_identity[identity] = session
            welcome = self._welcome()
            answer = Welcome(
                welcome.v, welcome.station, welcome.product, welcome.epoch, hello.nonce, encoding,
                welcome.heartbeat_ms, welcome.lost_ms, hello.sent_ns, received_ns, self._clock(),
            )  # fmt: skip
            self._send(identity, answer, encoding)
            for gone in self._unknown(hello):
                self._send(identity, gone, encoding)

    def _yields(self, identity: bytes, hello: Hello) -> bool:
        """Whether it gets the name: the newest one wins, and one that lost waits for that one's end."""
        name, before = hello.consumer, self._by_name.get(hello.consumer)
        if before is None:
            self._tell("info", f"consumer {name}: connected")
        elif before.instance != hello.instance:
            why = f"another consumer has taken the name {name!r}; give one of the two another name"
            if (name, hello.instance) in self._outdone:
                self._send(identity, Denied("replaced", why), "json")
                return False
            if self._send(before.identity, Denied("replaced", why), before.encoding):
                self.counts[name].replaced += 1
                self._outdone.append((name, before.instance))
                self._tell("warning", f"consumer {name}: {why}, or stop it; the newer one is served")
            else:  # that one died without a word
                self._tell("info", f"consumer {name}: connected again")
        if before is not None:
            del self._by_identity[before.identity]
        if (left := self._by_identity.get(identity)) is not None:  # it goes by another name now
            self._drop(left, "goes by another name")
        return True

    def _begin(self, hello: Hello) -> Position:
        """Where it stands: by its own word, which counts as an acknowledgement, else by ours."""
        outbox = self._outbox
        if not hello.epoch:
            return outbox.consumers[hello.consumer]
        position = outbox.position(hello.epoch, max(0, hello.seq))
        if position is None:
            return outbox.before_all()
        if position[0] >= outbox.epoch_id and position > self._tip:
            position = max(self._tip, (outbox.epoch_id, 0))  # nothing of this epoch is ever taken back
        outbox.acknowledge(hello.consumer, position)
        return position

    def _unknown(self, hello: Hello) -> list[Gone]:
        if hello.epoch and self._outbox.position(hello.epoch, 0) is None:
            return [Gone(hello.epoch, max(0, hello.seq) + 1, 0)]
        return []

    def _acknowledge(self, session: _Session, ack: Ack) -> None:
        position = self._outbox.position(ack.epoch, ack.seq)
        if position is None or position > self._tip:
            self.refused["ack"] += 1
            return
        session.cursor = max(session.cursor, position)  # it had it from before it came back
        count = 0
        while session.unacked and session.unacked[0] <= position:
            session.unacked.popleft()
            count += 1
        self.counts[session.name].acked += count
        self._outbox.acknowledge(session.name, position)

    def _send_verdict(self, session: _Session, kept: Kept, live: bool) -> bool:
        if failpoints.active:
            failpoints.active.hit("verdicts.send.before")
        epoch, seq = session.cursor
        if kept.position != (epoch, seq + 1):
            self._tell_holes(session, kept.position)
        try:
            data = channel.encode_told(kept.header, kept.body, live, session.encoding)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self._pass_over(session, kept)
            return True
        if not self._send_bytes(session.identity, data):
            self._drop(session, "does not read, or its connection broke")
            return False
        session.cursor = kept.position
        session.unacked.append(kept.position)
        count = self.counts[session.name]
        count.sent += 1
        count.replayed += not live
        if failpoints.active:
            failpoints.active.hit("verdicts.send.after")
        return True

    def _pass_over(self, session: _Session, kept: Kept) -> None:
        """What is damaged must not keep the others back, at this start and every later one."""
        seq = kept.position[1]
        self.damaged += 1
        self._tell(
            "error",
            f"{self._outbox.path}: verdict {seq} of epoch {kept.epoch} is damaged, consumer "
            f"{session.name} is told that it is lost; check the disk",
        )
        self._send(session.identity, Gone(kept.epoch, seq, seq), session.encoding)
        session.cursor = kept.position

    def _tell_holes(self, session: _Session, before: Position) -> None:
        for hole in self._outbox.holes(session.cursor, before):
            self._send(session.identity, Gone(hole.epoch, hole.first, hole.last), session.encoding)

    def _refuse(self, identity: bytes, reason: str, why: str) -> None:
        self.refused[reason] += 1
        self._send(identity, Denied(reason, why), "json")

    def _drop(self, session: _Session, why: str, level: str = "warning") -> None:
        self._tell(level, f"consumer {session.name}: {why}; verdicts are kept for it")
        if self._by_name.get(session.name) is session:
            del self._by_name[session.name]
        self._by_identity.pop(session.identity, None)

    def _send(self, identity: bytes, message: channel.FromDaemon, encoding: str) -> bool:
        return self._send_bytes(identity, channel.encode(message, encoding))

    def _send_bytes(self, identity: bytes, data: bytes) -> bool:
        """False where it is gone or has not read what it was sent."""
        try:
            self._socket.send_multipart([identity, data], zmq.DONTWAIT)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            return False
        return True
