"""The control channel: questions and orders from commands to the daemon of a station.

Commands: `status`; `product` {name}; `trigger` {part, product}; `collect` {parts, directory};
`collect_cancel`; `challenge` {expected, who, seconds}; `challenge_cancel`; `challenge_override`
{seconds, who, reason}; `reload` {who, reason}; `stop`; of subscribers `sync` {token}; `snapshot`;
`missed` {count}.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any

import zmq

from edge_ad.delivery import wire
from edge_ad.delivery.curve import Keys, apply_client
from edge_ad.delivery.endpoint import ANYBODY_HERE, Access, bind, notice_loss
from edge_ad.delivery.wire import VERSION, Reply, Request
from edge_ad.errors import DeliveryError, EdgeAdError

Answer = dict[str, Any]
Handler = Callable[[str, dict[str, Any]], "Answer | Future[Answer]"]
log = logging.getLogger(__name__)

_LARGEST = 1_000_000  # bytes of a request
_LONGEST = 4000  # characters of a refusal, which may quote what was asked
_MOST_PENDING = 64  # commands that take time, at once
_STOPPED = "the daemon stopped before it had done this; ask again when it is up"


class ControlClient:
    """Asks the daemon at `endpoint`, or another `program`. Not thread safe. An unanswered request raises
    DeliveryError. `keys` are needed where the daemon has [curve] and the endpoint is TCP."""

    def __init__(
        self,
        endpoint: str,
        timeout_s: float = 5.0,
        program: str = "edge-ad run",
        *,
        keys: Keys | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.program = program
        self.timeout_s = timeout_s
        self._id = 0
        self._remedy = f"is '{program}' up" + (", and are the keys right?" if keys is not None else "?")
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        apply_client(self._socket, keys, endpoint)
        notice_loss(self._socket)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            raise DeliveryError(
                f"{endpoint}: not an endpoint ({error}); use the daemon's control.endpoint"
            ) from error

    def request(self, command: str, timeout_s: float | None = None, **args: Any) -> Answer:
        """Send one command and return its result.

        Raises DeliveryError with the daemon's words when it refuses, or when nothing answers in time.
        """
        limit = self.timeout_s if timeout_s is None else timeout_s
        self._id += 1
        end = time.monotonic() + limit
        self._socket.setsockopt(zmq.SNDTIMEO, int(limit * 1000))
        with suppress(zmq.Again):  # nobody to send it to; a poll would not tell, keys are refused later
            self._socket.send(wire.encode(Request(VERSION, self._id, command, args)))
        while self._socket.poll(int(max(0.0, end - time.monotonic()) * 1000)):
            reply = wire.decode_reply(self._socket.recv())
            if reply.id != self._id:
                continue  # the late answer to a request that was given up
            if not reply.ok:
                raise DeliveryError(reply.error)
            return reply.result
        raise DeliveryError(
            f"{self.endpoint}: no answer to {command!r} within {limit:g} s; {self._remedy}"
        )

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ControlServer:
    """Answers commands in a thread of its own.

    `handler(command, args)` returns the answer, or a Future of it where the answer takes time (others
    are served meanwhile); it raises EdgeAdError to refuse. The socket is bound on construction.
    `refused` counts requests that are none (garbage, another major version), and those that found 64
    others at work; whoever does not read its answers gets none, uncounted, and holds nobody up.
    """

    def __init__(self, endpoint: str, handler: Handler, access: Access = ANYBODY_HERE) -> None:
        self.refused = 0
        self._handler = handler
        self._stop = threading.Event()
        self._pending: list[tuple[bytes, int, Future[Answer]]] = []
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 200)
        for mark in (zmq.SNDHWM, zmq.RCVHWM):  # per client, of which each asks once at a time
            self._socket.setsockopt(mark, 64)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _LARGEST)  # more ends the connection
        try:
            self.endpoint = bind(self._socket, endpoint, "control.endpoint", access)
        except EdgeAdError:
            self._socket.close(linger=0)
            raise
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering and close the socket. Idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)
        if not self._thread.is_alive():
            self._socket.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            if self._socket.poll(20 if self._pending else 100):
                peer, *frames = self._socket.recv_multipart()
                self._receive(peer, frames)
            self._answer_pending()
        self._answer_pending()
        for peer, request_id, _ in self._pending:
            self._refuse(peer, request_id, _STOPPED)

    def _receive(self, peer: bytes, frames: list[bytes]) -> None:
        request_id = 0
        try:
            request = self._understand(frames)
            request_id = request.id
            answer = self._handler(request.command, request.args)
            if isinstance(answer, Future):
                self._pending.append((peer, request_id, answer))
            else:
                self._tell(peer, request_id, answer)
        except EdgeAdError as error:
            self._refuse(peer, request_id, str(error))
        except Exception as error:  # the top of the thread: one bad request must not end it
            log.exception("control: a command failed")
            self._refuse(peer, request_id, f"internal error: {error!r}")

    def _understand(self, frames: list[bytes]) -> Request:
        try:
            if len(frames) != 1:
                raise DeliveryError(f"a request is one frame, got {len(frames)}")
            if len(self._pending) >= _MOST_PENDING:
                raise DeliveryError(f"{_MOST_PENDING} commands are at work; ask again later")
            return wire.decode_request(frames[0])
        except DeliveryError:
            self.refused += 1
            raise

    def _answer_pending(self) -> None:
        # Asked once each: another thread may be done at any moment.
        asked = [(entry, entry[2].done()) for entry in self._pending]
        self._pending = [entry for entry, done in asked if not done]
        for peer, request_id, future in (entry for entry, done in asked if done):
            if future.cancelled():
                self._refuse(peer, request_id, _STOPPED)
            elif (error := future.exception()) is not None:
                self._refuse(peer, request_id, str(error))
            else:
                self._tell(peer, request_id, future.result())

    def _tell(self, peer: bytes, request_id: int, answer: Answer) -> None:
        try:
            self._send(peer, Reply(VERSION, request_id, True, answer))
        except (TypeError, ValueError) as error:  # no JSON, as a path that is not UTF-8
            log.exception("control: an answer cannot be sent")
            self._refuse(peer, request_id, f"internal error: {error!r}")

    def _refuse(self, peer: bytes, request_id: int, why: str) -> None:
        text = why[:_LONGEST].encode("utf-8", "backslashreplace").decode()  # a path need not be UTF-8
        self._send(peer, Reply(VERSION, request_id, False, error=text))

    def _send(self, peer: bytes, reply: Reply) -> None:
        self._socket.send_multipart([peer, wire.encode(reply)])
