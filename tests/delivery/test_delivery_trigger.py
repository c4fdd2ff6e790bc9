"""The trigger channel over real sockets: one answer for each request, whoever asks, however often."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from edge_ad.delivery.trigger import (
    TriggerClient,
    TriggerReply,
    TriggerRequest,
    TriggerServer,
    clock_name,
)
from edge_ad.errors import DeliveryError


class Station:
    """A server that accepts every part, and keeps what it was asked."""

    def __init__(self, endpoint: str) -> None:
        self.asked: list[TriggerRequest] = []
        self.server = TriggerServer(endpoint, self.answer)
        self.server.start()

    def answer(self, request: TriggerRequest) -> TriggerReply:
        self.asked.append(request)
        if request.part == "boom":
            raise ValueError(request.part)
        if request.part == "busy":
            return TriggerReply(False, "overflow", "16 parts were waiting", len(self.asked))
        return TriggerReply(True, count=len(self.asked))


@pytest.fixture(params=["ipc", "tcp"])
def station(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Station]:
    endpoint = f"ipc://{tmp_path / 't.sock'}" if request.param == "ipc" else "tcp://127.0.0.1:0"
    station = Station(endpoint)
    yield station
    station.server.close()


def raw(endpoint: str) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    return socket


def told(socket: zmq.Socket[bytes], data: bytes) -> dict[str, object]:
    socket.send(data)
    assert socket.poll(10_000)
    answer: dict[str, object] = json.loads(socket.recv())
    return answer


def test_part_is_announced_with_what_is_known_of_it(station: Station) -> None:
    before = time.monotonic_ns()
    with TriggerClient(station.server.endpoint, 10.0) as client:
        assert client.send("A1", "valve", 1234) == TriggerReply(True, count=1)
        assert client.send("A2") == TriggerReply(True, count=2)
        reply = client.send("busy")
        assert (reply.accepted, reply.reason, reply.text) == (False, "overflow", "16 parts were waiting")
    first, second, _ = station.asked
    assert (first.part, first.product, first.encoder) == ("A1", "valve", 1234)
    assert (second.part, second.product, second.encoder) == ("A2", "", None)
    assert first.clock == clock_name() != ""
    assert before < first.t_ns < second.t_ns < time.monotonic_ns()


def test_loop_that_polls_gets_each_reply_with_its_request(station: Station) -> None:
    with TriggerClient(station.server.endpoint, 10.0) as client:
        assert client.send("first").accepted  # connected
        ids = [client.ask(f"P{i}") for i in range(20)]
        replies: dict[str, TriggerReply] = {}
        while len(replies) < 20:
            assert client.socket.poll(10_000)
            replies |= dict(client.replies())
        assert client.replies() == []
        assert [replies[i].count for i in ids] == list(range(2, 22))


def test_request_that_is_sent_again_announces_once_and_is_answered_the_same(station: Station) -> None:
    socket = raw(station.server.endpoint)
    data = json.dumps({"v": "1.0", "id": "x-1", "part": "A"}).encode()
    answers = [told(socket, data) for _ in range(3)]
    other = raw(station.server.endpoint)
    answers.append(told(other, data))
    assert all(answer == answers[0] for answer in answers)
    assert len(station.asked) == 1
    wrong = told(socket, json.dumps({"v": "1.0", "id": "x-1", "part": "B"}).encode())
    assert (wrong["accepted"], wrong["reason"]) == (False, "bad_request")
    assert "new one for each part" in str(wrong["text"])
    assert len(station.asked) == 1
    socket.close()
    other.close()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not understood"),
        (b"\xff\xfe", "not understood"),
        (b'{"v":"1.0","id":"1"}', "part"),
        (b'{"v":"1.0","id":"1","part":""}', "not understood"),
        (b'{"v":"1.0","id":"1","part":"A","encoder":"x"}', "encoder"),
        (b'{"v":"2.0","id":"1","part":"A"}', "2.0"),
        (b'{"v":"1.0","id":"1","part":"%s"}' % (b"A" * 200), "not understood"),
    ],
)
def test_request_that_is_none_is_refused_in_words_and_counted(
    station: Station, data: bytes, words: str
) -> None:
    socket = raw(station.server.endpoint)
    answer = told(socket, data)
    assert (answer["accepted"], answer["reason"]) == (False, "bad_request")
    assert words in str(answer["text"])
    assert station.server.refused == 1
    assert station.asked == []
    assert told(socket, b'{"v":"1.7","id":"1","part":"A","new":1}')["accepted"] is True
    socket.close()


def test_thousands_of_fuzzed_requests_change_nothing(station: Station) -> None:
    rng = random.Random(7)
    socket = raw(station.server.endpoint)
    for _ in range(3000):
        frames = [rng.randbytes(rng.randrange(40)) for _ in range(rng.randrange(1, 4))]
        socket.send_multipart(frames)
        while socket.poll(0):
            socket.recv_multipart()
    with TriggerClient(station.server.endpoint, 30.0) as client:
        assert client.send("A").accepted
    assert [request.part for request in station.asked] == ["A"]
    assert station.server.refused > 0
    socket.close()


def test_client_says_at_each_attempt_how_long_ago_the_part_was_seen(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path / 't.sock'}"
    now = 10**12

    def clock() -> int:
        nonlocal now
        now += 10**6
        return now

    started: list[Station] = []
    timer = threading.Timer(0.3, lambda: started.append(Station(endpoint)))
    timer.start()
    with TriggerClient(endpoint, 30.0, clock=clock) as client:
        assert client.send("A").accepted
    timer.join()
    (request,) = started[0].asked
    assert request.clock == ""  # as from another machine
    assert request.age_ns > 3 * 10**6  # it was tried before there was anybody to hear it
    assert request.t_ns < 10**12 + 2 * 10**6
    started[0].server.close()


def test_request_without_end_is_not_kept_and_the_others_are_answered(station: Station) -> None:
    socket = raw(station.server.endpoint)
    data = b'{"v":"1.0","id":"1","part":"A","clock":"%s"}' % (b"c" * 129)
    assert told(socket, data)["reason"] == "bad_request"
    socket.send(b'{"v":"1.0","id":"2","part":"A","clock":"%s"}' % (b"c" * 5_000_000))
    with TriggerClient(station.server.endpoint, 30.0) as client:
        assert client.send("B").accepted
    assert socket.poll(200) == 0
    assert [request.part for request in station.asked] == ["B"]
    socket.close()


def test_req_socket_is_answered_too(station: Station) -> None:
    socket = zmq.Context.instance().socket(zmq.REQ)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(station.server.endpoint)
    socket.send(b'{"v":"1.0","id":"1","part":"A"}')
    assert socket.poll(10_000)
    assert json.loads(socket.recv())["accepted"] is True
    socket.close()


def test_server_survives_a_handler_that_fails(
    station: Station, caplog: pytest.LogCaptureFixture
) -> None:
    with TriggerClient(station.server.endpoint, 0.3) as client:
        assert client.send("boom").reason == "no_answer"
    with TriggerClient(station.server.endpoint, 10.0) as client:
        assert client.send("A").accepted
    assert "a request failed" in caplog.text


def test_nobody_there_is_a_reply_and_what_was_meant_for_the_past_never_arrives(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path / 't.sock'}"
    with TriggerClient(endpoint, 0.2) as client:
        reply = client.send("A")
        assert (reply.accepted, reply.reason) == (False, "no_answer")
        assert "edge-ad run" in reply.text
        client.ask("B")
        later = Station(endpoint)
        client.timeout_s = 20.0
        assert client.send("C").accepted
        assert [request.part for request in later.asked] == ["C"]
        later.server.close()


def test_client_that_asks_while_the_server_starts_is_answered(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path / 't.sock'}"
    replies: list[TriggerReply] = []

    def ask() -> None:
        with TriggerClient(endpoint, 30.0) as client:
            replies.append(client.send("A"))

    thread = threading.Thread(target=ask)
    thread.start()
    station = Station(endpoint)
    thread.join(30)
    assert replies == [TriggerReply(True, count=1)]
    assert len(station.asked) == 1
    station.server.close()


def test_second_server_and_a_wrong_endpoint_are_refused(station: Station) -> None:
    with pytest.raises(DeliveryError, match="in use"):
        TriggerServer(station.server.endpoint, station.answer)
    with pytest.raises(DeliveryError, match=r"trigger\.endpoint"):
        TriggerClient("nonsense")
