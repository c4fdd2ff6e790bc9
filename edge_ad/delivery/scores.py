"""The scores channel: PUB, lossy by contract. A slow or absent subscriber never holds up the daemon."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType

import zmq

from edge_ad.delivery import wire
from edge_ad.delivery.control import ControlClient
from edge_ad.delivery.endpoint import bind
from edge_ad.delivery.wire import REJECTS, SCORES, SYNC, Header, ScoreBody
from edge_ad.errors import DeliveryError

Message = tuple[str, Header, ScoreBody]


class ScorePublisher:
    """The publishing side. Not thread safe: after construction one thread uses it.

    `endpoint` is the one that was bound (with the port, when 0 was asked for). Raises DeliveryError.
    """

    def __init__(self, endpoint: str, high_water_mark: int = 10_000) -> None:
        # Its own context: only ending that waits for what is still to be sent.
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, high_water_mark)
        try:
            self.endpoint = bind(self._socket, endpoint, "scores.endpoint")
        except DeliveryError:
            self.close(linger_ms=0)
            raise

    def send(self, header: bytes, body: bytes, rejected: bool) -> None:
        """Publish an encoded part on `scores`, and on `rejects` when it did not pass. Never blocks."""
        self._send(SCORES, header, body)
        if rejected:
            self._send(REJECTS, header, body)

    def send_sync(self, token: str) -> None:
        """Publish the echo that tells a subscriber that its subscription works."""
        self._send(SYNC, token.encode(), b"{}")

    def close(self, linger_ms: int = 500) -> None:
        """Close after at most `linger_ms` of sending what subscribers have not taken. Idempotent."""
        self._socket.close(linger=linger_ms)
        self._context.term()

    def _send(self, topic: str, header: bytes, body: bytes) -> None:
        # A PUB socket never says EAGAIN: it drops for the subscriber whose queue is full.
        self._socket.send_multipart([topic.encode(), header, body], zmq.DONTWAIT)


class ScoreSubscriber:
    """A consumer: iterate for (topic, header, body), or `receive` with a timeout. Not thread safe.

    `topics` are "scores" (every part) and "rejects" (REJECT and FAULT). `skipped` counts messages
    that were not understood (garbage, another major version).
    """

    def __init__(
        self, endpoint: str, topics: Sequence[str] = (SCORES,), high_water_mark: int = 100_000
    ) -> None:
        unknown = sorted(set(topics) - {SCORES, REJECTS})
        if unknown:
            raise DeliveryError(f"no topic is named {unknown[0]!r}; have {SCORES!r} and {REJECTS!r}")
        self.endpoint = endpoint
        self.skipped = 0
        self._waiting: deque[list[bytes]] = deque()
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, high_water_mark)
        self._socket.setsockopt(zmq.LINGER, 0)
        for topic in (*topics, SYNC):  # last, so that its echo proves the others
            self._socket.setsockopt_string(zmq.SUBSCRIBE, topic)
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
                if frames[0] != SYNC.encode():
                    self._waiting.append(frames)
                elif frames[1] == token:
                    return
        raise DeliveryError(
            f"{self.endpoint}: no echo of the daemon in {timeout_s:g} s; is this its scores.endpoint?"
        )

    def receive(self, timeout_s: float = 1.0) -> Message | None:
        """The next part, or None when none came in time."""
        end = time.monotonic() + timeout_s
        while True:
            frames = self._waiting.popleft() if self._waiting else self._next_frames(end)
            if frames is None:
                return None
            if frames[0] == SYNC.encode():
                continue
            try:
                if len(frames) != 3:
                    raise DeliveryError(f"{len(frames)} frames instead of 3")
                return frames[0].decode(), wire.decode_header(frames[1]), wire.decode_body(frames[2])
            except (DeliveryError, UnicodeDecodeError):
                self.skipped += 1

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

    def _next_frames(self, end: float) -> list[bytes] | None:
        left_ms = int(max(0.0, end - time.monotonic()) * 1000)
        if not self._socket.poll(left_ms):
            return None
        frames: list[bytes] = self._socket.recv_multipart()
        return frames
