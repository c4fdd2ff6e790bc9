"""The trigger channel: whoever sees a part announces it by its key, and is told at once what becomes
of it.

A request and its reply are one frame of JSON each, between a DEALER or REQ socket and the daemon's
ROUTER. A request with an id that was answered is answered the same again: asking twice announces once.
The part's time is the sender's, where its clock is this machine's; else that of the request's arrival,
less how long the sender had it: only the way over the network is not known.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Annotated

import msgspec
import zmq
from msgspec import Meta

from edge_ad.delivery import wire
from edge_ad.delivery.curve import Keys, apply_client
from edge_ad.delivery.endpoint import ANYBODY_HERE, Access, bind, notice_loss
from edge_ad.delivery.wire import VERSION
from edge_ad.errors import DeliveryError, EdgeAdError

log = logging.getLogger(__name__)
REMEMBERED = 8192  # answers, for those who ask again
_LARGEST = 4096  # bytes of a frame; a longer one ends the connection
NO_ANSWER = "no_answer"
BAD_REQUEST = "bad_request"
_Id = Annotated[str, Meta(min_length=1, max_length=64)]
LONGEST_KEY = 128  # characters of a part's key
LONGEST_PRODUCT = 64
_Key = Annotated[str, Meta(min_length=1, max_length=LONGEST_KEY)]
_Count = Annotated[int, Meta(ge=-(2**62), le=2**62)]


class TriggerRequest(msgspec.Struct, frozen=True):
    """A part was seen. `product`: what it is; empty: what is being made."""

    v: str
    id: _Id  # of the request; new for each part, the same when asking again
    part: _Key
    product: Annotated[str, Meta(max_length=LONGEST_PRODUCT)] = ""
    encoder: _Count | None = None
    # What the sender's monotonic clock is called, see `clock_name`; empty: unknown.
    clock: Annotated[str, Meta(max_length=128)] = ""
    t_ns: _Count = 0  # when the part was seen, by that clock
    age_ns: Annotated[int, Meta(ge=0, le=2**62)] = 0  # then to when this was sent, for another machine


class TriggerAnswer(msgspec.Struct, frozen=True):
    """The reply to the request of this id."""

    v: str
    id: str
    accepted: bool
    reason: str = ""
    text: str = ""
    count: int = 0


class TriggerReply(msgspec.Struct, frozen=True):
    """What became of a trigger. Accepted: the part is looked at, and has one verdict. Else `reason` says
    why not, and `text` in words; the part then has a FAULT with this reason, or no verdict at all."""

    accepted: bool
    reason: str = ""  # not_ready, overflow, key_reused, unknown_product, stale, bad_request, no_answer
    text: str = ""
    count: int = 0  # triggers of this epoch that have a verdict or will have one, this one included


Handler = Callable[[TriggerRequest], TriggerReply]
_encoder = msgspec.json.Encoder()
_requests = msgspec.json.Decoder(TriggerRequest)
_answers = msgspec.json.Decoder(TriggerAnswer)


def clock_name() -> str:
    """What tells this machine's monotonic clock, since its boot, from any other; empty where nothing
    does."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/time').readlink()}"
    except OSError:
        return ""


class TriggerServer:
    """Answers triggers in a thread of its own; the socket is bound on construction, which raises
    DeliveryError. `handler` decides and must not wait. `refused` counts what was not understood.
    """

    def __init__(self, endpoint: str, handler: Handler, access: Access = ANYBODY_HERE) -> None:
        self.refused = 0
        self._handler = handler
        self._answered: OrderedDict[str, tuple[TriggerRequest, TriggerAnswer]] = OrderedDict()
        self._stop = threading.Event()
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 200)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _LARGEST)
        try:
            self.endpoint = bind(self._socket, endpoint, "trigger.endpoint", access)
        except EdgeAdError:
            self._socket.close(linger=0)
            raise
        self._thread = threading.Thread(target=self._serve, name="trigger", daemon=True)

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
            if self._socket.poll(100):
                try:
                    peer, *frames = self._socket.recv_multipart()
                    answer = self._answer(frames[-1] if frames else b"")
                    # A REQ socket's empty delimiter goes back with the answer.
                    self._socket.send_multipart([peer, *frames[:-1], _encoder.encode(answer)])
                except Exception:  # the top of the thread: one request must not end it
                    self.refused += 1
                    log.exception("trigger: a request failed; please report this")

    def _answer(self, data: bytes) -> TriggerAnswer:
        try:
            request = _decode(_requests, data, "trigger")
        except DeliveryError as error:
            self.refused += 1
            return TriggerAnswer(VERSION, "", False, BAD_REQUEST, str(error))
        known = self._answered.get(request.id)
        if known is not None:
            before, answer = known
            if (before.part, before.product) == (request.part, request.product):
                return answer
            self.refused += 1
            text = f"id {request.id!r} was of part {before.part!r}; take a new one for each part"
            return TriggerAnswer(VERSION, request.id, False, BAD_REQUEST, text)
        reply = self._handler(request)
        answer = TriggerAnswer(
            VERSION, request.id, reply.accepted, reply.reason, reply.text, reply.count
        )
        self._answered[request.id] = request, answer
        if len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)
        return answer


class TriggerClient:
    """Announces parts to the daemon at `endpoint`. Not thread safe. Raises DeliveryError for an endpoint
    that is none; a daemon that does not answer is a reply with the reason `no_answer`.

    `ask` and `replies` are for a loop that polls `socket`. `keys` are needed where the daemon has
    [curve] and the endpoint is TCP.
    """

    def __init__(
        self,
        endpoint: str,
        timeout_s: float = 1.0,
        keys: Keys | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self._clock = clock
        self._clock_name = clock_name() if clock is time.monotonic_ns else ""
        self._nonce = secrets.token_hex(8)
        self._number = 0
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        # What was meant for a daemon that is gone must not reach the next one, about another part.
        self.socket.setsockopt(zmq.IMMEDIATE, 1)
        try:
            apply_client(self.socket, keys, endpoint)
            notice_loss(self.socket)
            self.socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.socket.close()
            raise DeliveryError(
                f"{endpoint}: not an endpoint ({error}); use the daemon's trigger.endpoint"
            ) from error

    def ask(self, part: str, product: str = "", encoder: int | None = None) -> str:
        """Announce a part that is seen now, without waiting; returns the request's id. Where no daemon
        is connected nothing is sent, and no reply will come."""
        request = self._request(part, product, encoder)
        self._send(request)
        return request.id

    def replies(self) -> list[tuple[str, TriggerReply]]:
        """The replies that have come, each with its request's id. Never waits."""
        found = []
        while self.socket.poll(0):
            try:
                answer = _decode(_answers, self.socket.recv_multipart()[-1], "reply")
            except DeliveryError:
                continue  # not from a daemon of this version: as if none had come
            reply = TriggerReply(answer.accepted, answer.reason, answer.text, answer.count)
            found.append((answer.id, reply))
        return found

    def send(self, part: str, product: str = "", encoder: int | None = None) -> TriggerReply:
        """Announce a part that is seen now and wait for the reply, asking again a few times."""
        request = self._request(part, product, encoder)
        end = time.monotonic() + self.timeout_s
        while (now := time.monotonic()) < end:
            sent = self._send(request)
            again = min(end, now + (self.timeout_s / 3 if sent else 0.01))
            while (left_s := again - time.monotonic()) > 0:
                self.socket.poll(max(1, int(left_s * 1000)))
                for number, reply in self.replies():
                    if number == request.id or (not number and reply.reason == BAD_REQUEST):
                        return reply
        text = f"{self.endpoint}: no answer within {self.timeout_s:g} s; is 'edge-ad run' up?"
        return TriggerReply(False, NO_ANSWER, text)

    def close(self) -> None:
        """Idempotent."""
        self.socket.close()

    def __enter__(self) -> TriggerClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(self, part: str, product: str, encoder: int | None) -> TriggerRequest:
        self._number += 1
        name = f"{self._nonce}-{self._number}"
        return TriggerRequest(VERSION, name, part, product, encoder, self._clock_name, self._clock())

    def _send(self, request: TriggerRequest) -> bool:
        request = msgspec.structs.replace(request, age_ns=max(0, self._clock() - request.t_ns))
        try:
            self.socket.send(_encoder.encode(request), zmq.DONTWAIT)
        except zmq.Again:
            return False  # not connected
        return True


def _decode(decoder: msgspec.json.Decoder[wire.T], data: bytes, what: str) -> wire.T:
    """Raises DeliveryError for garbage and for another major version."""
    message = wire.decode(decoder, data, what)
    wire.check_version(message.v, what)  # type: ignore[attr-defined]
    return message
