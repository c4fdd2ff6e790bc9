"""The scores channel: PUB, lossy by contract. A slow or absent subscriber never holds up the daemon."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType

import zmq

from edge_ad.delivery import wire
from edge_ad.delivery.control import ControlClient
from edge_ad.delivery.curve import Keys, apply_client
from edge_ad.delivery.endpoint import ANYBODY_HERE, Access, bind, notice_loss
from edge_ad.delivery.following import Following
from edge_ad.delivery.wire import REJECTS, SCORES, SYNC, Header, ScoreBody
from edge_ad.errors import DeliveryError, EdgeAdError

Message = tuple[str, Header, ScoreBody]
_KEPT = 256  # last messages, of as many products and topics


class ScorePublisher:
    """The publishing side: after construction one thread publishes; `snapshot` and `report_missed` are
    for any.

    `endpoint` is the one that was bound (with the port, when 0 was asked for). `overflows` counts how
    often a subscriber's queue was found full: ZeroMQ then drops for that one alone, and without a word
    until it has read half of its queue, so how many it missed is only known from what it reports:
    `missed`. Raises DeliveryError and ConfigError.
    """

    def __init__(
        self, endpoint: str, high_water_mark: int = 10_000, access: Access = ANYBODY_HERE
    ) -> None:
        self.overflows = 0
        self.missed = 0
        self._missed_lock = threading.Lock()
        self._last: dict[tuple[str, str], tuple[bytes, bytes]] = {}  # by topic and product
        # Its own context: only ending that waits for what is still to be sent.
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, high_water_mark)
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        try:
            self.endpoint = bind(self._socket, endpoint, "scores.endpoint", access)
        except EdgeAdError:
            self.close(linger_ms=0)
            raise

    def send(self, header: bytes, body: bytes, rejected: bool, product: str = "") -> None:
        """Publish an encoded part on `scores`, and on `rejects` when it did not pass. Never blocks."""
        for topic in (SCORES, REJECTS) if rejected else (SCORES,):
            key = topic, product
            if key not in self._last and len(self._last) >= _KEPT:
                del self._last[next(iter(self._last))]
            self._last[key] = header, body
            self._send(topic, header, body)

    def snapshot(self) -> list[dict[str, str]]:
        """The last message of each topic and product: what a subscriber begins with that comes late."""
        last = list(self._last.items())  # in one step: the publishing thread goes on
        return [
            {"topic": topic, "header": header.decode(), "body": body.decode()}
            for (topic, _), (header, body) in last
        ]

    def report_missed(self, count: int) -> None:
        """A subscriber has found that it missed so many messages."""
        with self._missed_lock:
            self.missed += count

    def send_sync(self, token: str) -> None:
        """Publish the echo that tells a subscriber that its subscription works."""
        self._send(SYNC, token.encode(), b"{}")

    def close(self, linger_ms: int = 500) -> None:
        """Close after at most `linger_ms` of sending what subscribers have not taken. Idempotent."""
        self._socket.close(linger=linger_ms)
        self._context.term()

    def _send(self, topic: str, header: bytes, body: bytes) -> None:
        frames = [topic.encode(), header, body]
        try:
            self._socket.send_multipart(frames, zmq.DONTWAIT)
        except zmq.Again:  # at least one queue is full, and nobody was sent anything
            self.overflows += 1
            self._socket.setsockopt(zmq.XPUB_NODROP, 0)
            self._socket.send_multipart(frames, zmq.DONTWAIT)
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)


class ScoreSubscriber:
    """A consumer: iterate for (topic, header, body), or `receive` with a timeout. Not thread safe.

    `topics` are "scores" (every part) and "rejects" (REJECT and FAULT). `skipped` counts messages
    that were not understood (garbage, another major version), `lost` those that never came, as far as
    later ones show. `keys` are needed where the daemon has [curve] and the endpoint is TCP.
    """

    def __init__(
        self,
        endpoint: str,
        topics: Sequence[str] = (SCORES,),
        high_water_mark: int = 100_000,
        *,
        keys: Keys | None = None,
    ) -> None:
        unknown = sorted(set(topics) - {SCORES, REJECTS})
        if unknown:
            raise DeliveryError(f"no topic is named {unknown[0]!r}; have {SCORES!r} and {REJECTS!r}")
        self.endpoint = endpoint
        self.skipped = 0
        self._following = Following()
        self._begun = False  # something was handed out
        self._reported = 0
        self._topics = frozenset(topics)
        self._waiting: deque[Message] = deque()
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, high_water_mark)
        self._socket.setsockopt(zmq.LINGER, 0)
        for topic in (*topics, SYNC):  # last, so that its echo proves the others
            self._socket.setsockopt_string(zmq.SUBSCRIBE, topic)
        apply_client(self._socket, keys, endpoint)
        notice_loss(self._socket)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            raise DeliveryError(
                f"{endpoint}: not an endpoint ({error}); use the daemon's scores.endpoint"
            ) from error

    def sync(self, control: ControlClient, timeout_s: float = 5.0) -> None:
        """Wait until messages arrive: parts published after this returns are received.

        Parts received meanwhile are kept and come out first. Raises DeliveryError when no echo of the
        daemon came back in time.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            token = secrets.token_hex(8).encode()
            control.request("sync", token=token.decode())
            until = min(end, time.monotonic() + 0.2)
            while (frames := self._next_frames(until)) is not None:
                if frames[0] == SYNC.encode():
                    if frames[1:2] == [token]:
                        return
                elif (message := self._take(frames)) is not None:
                    self._waiting.append(message)
        raise DeliveryError(
            f"{self.endpoint}: no echo of the daemon in {timeout_s:g} s; is this its scores.endpoint?"
        )

    def start_from(self, control: ControlClient, timeout_s: float = 5.0) -> None:
        """Begin with the last part of each product, then go on with newer ones, in order and once.

        Called again it catches up: what came in so far comes first, then the last part if it is newer,
        and `lost` has all that is missing up to there, also where nothing came any more. The daemon is
        told how many are lost, for its metrics. Raises DeliveryError.
        """
        self.sync(control, timeout_s)
        answer = control.request("snapshot", timeout_s=timeout_s)
        first, self._begun = not self._begun, True
        if first:  # what came in meanwhile is in the snapshot, or older
            self._waiting.clear()
            self._following = Following()
        found = [
            (entry["topic"], wire.decode_header(entry["header"].encode()),
             wire.decode_body(entry["body"].encode()))
            for entry in answer["messages"]
            if entry["topic"] in self._topics
        ]  # fmt: skip
        for message in sorted(found, key=lambda m: m[1].seq):
            if self._following.take(*message, counted=not first):
                self._waiting.append(message)
        if (missed := self.lost - self._reported) > 0:
            control.request("missed", timeout_s=timeout_s, count=missed)
            self._reported += missed

    @property
    def lost(self) -> int:
        """Messages that were published and did not come, as far as it is known."""
        return self._following.lost

    def receive(self, timeout_s: float = 1.0) -> Message | None:
        """The next part, or None when none came in time."""
        end = time.monotonic() + timeout_s
        while True:
            if self._waiting:
                self._begun = True
                return self._waiting.popleft()
            frames = self._next_frames(end)
            if frames is None:
                return None
            if frames[0] != SYNC.encode() and (message := self._take(frames)) is not None:
                self._begun = True
                return message

    def __iter__(self) -> Iterator[Message]:
        """Endless: waits for the next part."""
        while True:
            message = self.receive(timeout_s=3600.0)
            if message is not None:
                yield message

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()

    def __enter__(self) -> ScoreSubscriber:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, frames: list[bytes]) -> Message | None:
        """The message, unless it is not understood or was seen."""
        try:
            if len(frames) != 3:
                raise DeliveryError(f"{len(frames)} frames instead of 3")
            topic = frames[0].decode()
            header, body = wire.decode_header(frames[1]), wire.decode_body(frames[2])
        except (DeliveryError, UnicodeDecodeError):
            self.skipped += 1
            return None
        return (topic, header, body) if self._following.take(topic, header, body) else None

    def _next_frames(self, end: float) -> list[bytes] | None:
        left_ms = int(max(0.0, end - time.monotonic()) * 1000)
        if not self._socket.poll(left_ms):
            return None
        frames: list[bytes] = self._socket.recv_multipart()
        return frames
