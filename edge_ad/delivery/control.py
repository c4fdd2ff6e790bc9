"""The control channel: questions and orders from commands to the daemon of a station.

Commands: `status`; `collect` {parts, directory}; `collect_cancel`; `reload`; `sync` {token}; `stop`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import zmq

from edge_ad.delivery import wire
from edge_ad.delivery.endpoint import bind
from edge_ad.delivery.wire import VERSION, Reply, Request
from edge_ad.errors import DeliveryError, EdgeAdError

Answer = dict[str, Any]
Handler = Callable[[str, dict[str, Any]], "Answer | Future[Answer]"]
log = logging.getLogger(__name__)

_STOPPED = "the daemon stopped before it had done this; ask again when it is up"


class ControlClient:
    """Asks the daemon at `endpoint`. Not thread safe. An unanswered request raises DeliveryError."""

    def __init__(self, endpoint: str, timeout_s: float = 5.0) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self._id = 0
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
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
        self._socket.send(wire.encode(Request(VERSION, self._id, command, args)))
        end = time.monotonic() + limit
        while self._socket.poll(int(max(0.0, end - time.monotonic()) * 1000)):
            reply = wire.decode_reply(self._socket.recv())
            if reply.id != self._id:
                continue  # the late answer to a request that was given up
            if not reply.ok:
                raise DeliveryError(reply.error)
            return reply.result
        raise DeliveryError(
            f"{self.endpoint}: no answer to {command!r} within {limit:g} s; is 'edge-ad run' up?"
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
    """

    def __init__(self, endpoint: str, handler: Handler) -> None:
        self._handler = handler
        self._stop = threading.Event()
        self._pending: list[tuple[bytes, int, Future[Answer]]] = []
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 200)
        try:
            self.endpoint = bind(self._socket, endpoint, "control.endpoint")
        except DeliveryError:
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
            if len(frames) != 1:
                raise DeliveryError(f"a request is one frame, got {len(frames)}")
            request = wire.decode_request(frames[0])
            request_id = request.id
            answer = self._handler(request.command, request.args)
            if isinstance(answer, Future):
                self._pending.append((peer, request_id, answer))
            else:
                self._send(peer, Reply(VERSION, request_id, True, answer))
        except EdgeAdError as error:
            self._refuse(peer, request_id, str(error))
        except Exception as error:  # the top of the thread: one bad request must not end it
            log.exception("control: a command failed")
            self._refuse(peer, request_id, f"internal error: {error!r}")

    def _answer_pending(self) -> None:
        done = [entry for entry in self._pending if entry[2].done()]
        if not done:
            return
        self._pending = [entry for entry in self._pending if not entry[2].done()]
        for peer, request_id, future in done:
            if future.cancelled():
                self._refuse(peer, request_id, _STOPPED)
            elif (error := future.exception()) is not None:
                self._refuse(peer, request_id, str(error))
            else:
                self._send(peer, Reply(VERSION, request_id, True, future.result()))

    def _refuse(self, peer: bytes, request_id: int, why: str) -> None:
        text = why.encode("utf-8", "backslashreplace").decode()  # a path need not be UTF-8
        self._send(peer, Reply(VERSION, request_id, False, error=text))

    def _send(self, peer: bytes, reply: Reply) -> None:
        self._socket.send_multipart([peer, wire.encode(reply)])
