"""The verdict channel over real sockets: order, replay, credit, who is served and who is refused."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import psutil
import pytest
import zmq
from channel_line import Client, Server, open_box, outcome, until
from hypothesis import given
from hypothesis import strategies as st

from edge_ad import failpoints
from edge_ad.delivery import channel
from edge_ad.delivery.channel import Ack, Beat, Bye, Denied, Gone, Hello, Welcome
from edge_ad.delivery.consumer import Delivered, LinkDown, LinkUp, Lost, Refused, VerdictConsumer
from edge_ad.delivery.outbox_file import OutboxError
from edge_ad.errors import DeliveryError
from edge_ad.verdict import Decision

REJECT = Decision.REJECT


@pytest.fixture
def raw() -> Iterator[zmq.Socket[bytes]]:
    """A peer that says whatever it likes."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 20_000)
        yield socket


def hello(name: str = "gate", **options: object) -> Hello:
    fields = {"v": channel.VERSION, "consumer": name, "instance": "raw", "nonce": 1, **options}
    return Hello(**fields)  # type: ignore[arg-type]


def say(socket: zmq.Socket[bytes], message: channel.FromConsumer, encoding: str = "json") -> None:
    socket.send(channel.encode(message, encoding))


@pytest.mark.parametrize("endpoint", ["", "tcp://127.0.0.1:0"], ids=["ipc", "tcp"])
@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_verdicts_come_in_order_and_live(tmp_path: Path, endpoint: str, encoding: str) -> None:
    with (
        Server(tmp_path, endpoint=endpoint) as line,
        Client(line.endpoint, encoding=encoding) as client,
    ):
        (up,) = client.wait(LinkUp)
        assert isinstance(up, LinkUp)
        assert (up.station, up.product, up.epoch) == ("line1", "valve", "e1")
        for count in range(1, 31):
            line.offer(1, REJECT if count % 3 == 0 else Decision.PASS)
            client.get(count)
        assert client.had == [("e1", seq, True) for seq in range(1, 31)]
        event = client.of(Delivered)[2]
        assert isinstance(event, Delivered)
        assert (event.header.part, event.body.verdict, event.body.reason) == ("P3", "REJECT", "score")
        assert event.body.distances == [[1.0] * 9]
        until(lambda: line.outbox.depth("gate") == 0)
        # One machine, one clock: what was measured must contain 0.
        client.until(lambda: len(client.consumer._samples) > 3)
        offset, uncertainty = client.consumer.clock_offset
        assert abs(offset) <= uncertainty + 1
        read = line.registry.get_sample_value
        for name, label, value, count in (
            ("commit", "durability", "normal", 20), ("commit", "durability", "full", 10),
            ("wait", "verdict", "PASS", 20), ("wait", "verdict", "REJECT", 10),
        ):  # fmt: skip
            name = f"edge_ad_verdict_{name}_seconds_count"
            until(lambda n=name, w={label: value}, c=count: read(n, w) == c)  # type: ignore[misc]


def test_what_came_before_is_told_again_then_what_comes_is_live(tmp_path: Path) -> None:
    with Server(tmp_path, "ffff") as line:
        line.offer(5)
        line.committed(5)
    with Server(tmp_path, "0000") as line:
        line.offer(100, REJECT)
        line.committed(100)
        with Client(line.endpoint) as client:
            client.get(105)
            until(lambda: line.outbox.depth("gate") == 0)  # its credit is its own again
            line.offer(1)
            client.get(106)
        old = [("ffff", s, False) for s in range(1, 6)] + [("0000", s, False) for s in range(1, 101)]
        assert client.had == [*old, ("0000", 101, True)]
        with Client(line.endpoint, position=("ffff", 4)) as client:
            client.get(102)
        assert client.had[:2] == [("ffff", 5, False), ("0000", 1, False)]
        assert client.of(Lost) == []


def test_without_a_position_it_begins_behind_what_it_acknowledged(tmp_path: Path) -> None:
    with Server(tmp_path) as line:
        line.offer(10)
        with Client(line.endpoint, acks=False) as client:
            client.get(10)
            client.consumer.ack("e1", 7)
            until(lambda: line.outbox.depth("gate") == 3)
        with Client(line.endpoint) as client:
            assert client.get(3) == [("e1", s, False) for s in (8, 9, 10)]


def test_never_more_unacknowledged_than_the_credit(tmp_path: Path) -> None:
    with Server(tmp_path) as line, Client(line.endpoint, acks=False, credit=4) as client:
        client.wait(LinkUp)
        line.offer(20)
        line.committed(20)
        client.get(4)
        beats = line.server.sessions.counts["gate"].sent
        for _ in range(20):
            client.step()
        assert len(client.had) == beats == 4
        for upto in range(4, 21, 4):
            client.consumer.ack("e1", upto)
            client.get(min(20, upto + 4))
        assert [seq for _, seq, _ in client.had] == list(range(1, 21))
        assert not client.had[-1][2]  # sent when there was room again: for the record only


def test_slow_consumer_holds_up_nobody(tmp_path: Path) -> None:
    with (
        Server(tmp_path, consumers=("gate", "mes")) as line,
        Client(line.endpoint, "gate") as gate,
        Client(line.endpoint, "mes", acks=False, credit=2) as slow,
    ):
        gate.wait(LinkUp)
        slow.wait(LinkUp)
        for count in range(1, 101):
            line.offer(1)
            gate.get(count)
        assert all(live for _, _, live in gate.had)
        assert line.outbox.depth("mes") == 100
        status = line.server.status()
        assert status["depth"] == 100
        slow.acks = True
        slow.consumer.ack("e1", len(slow.get(2)))
        slow.get(100)
        assert [seq for _, seq, _ in slow.had] == list(range(1, 101))


def test_dead_consumer_is_noticed_and_served_again(tmp_path: Path) -> None:
    with Server(tmp_path, lost_ms=200) as line:
        client = Client(line.endpoint)
        client.wait(LinkUp)
        line.offer(1)
        client.get(1)
        until(lambda: line.outbox.depth("gate") == 0)
        until(lambda: not line.server.sessions.is_up("gate"))  # it is not asked any more: as if dead
        line.offer(3)
        line.committed(4)
        assert any("not heard for 0.2 s" in text for _, text in line.told)
        assert client.get(4)[1:] == [("e1", s, False) for s in (2, 3, 4)]
        client.consumer.close()
        client.consumer.close()


def test_restart_of_the_daemon_is_noticed_and_nothing_comes_twice(tmp_path: Path) -> None:
    with Server(tmp_path, "b") as line, Client(line.endpoint, acks=False) as client:
        client.wait(LinkUp)
        line.offer(6)
        client.get(6)
        client.consumer.ack("b", 2)
        line.server.close()
        (down,) = client.wait(LinkDown)
        assert isinstance(down, LinkDown)
        assert "the daemon stops" in down.why
        with Server(tmp_path, "a") as line:
            client.wait(LinkUp, 2)
            line.offer(2)
            client.get(8)
            client.consumer.ack("a", 2)
            until(lambda: line.outbox.depth("gate") == 0)
        assert [(e, s) for e, s, _ in client.had] == [
            *[("b", s) for s in range(1, 7)], ("a", 1), ("a", 2),
        ]  # fmt: skip
        assert client.consumer.duplicates >= 4


def test_killed_daemon_is_noticed_by_its_silence(tmp_path: Path) -> None:
    with Server(tmp_path) as line, Client(line.endpoint, lost_ms=300.0) as client:
        client.wait(LinkUp)
        failpoints.activate(["verdicts.send.before=sleep:2@1"])  # the thread hangs
        try:
            line.offer(1)
            (down,) = client.wait(LinkDown)
        finally:
            failpoints.activate([])
        assert down == LinkDown("nothing heard of the daemon for 0.3 s")
        client.wait(LinkUp, 2)
        client.get(1)
        assert [seq for _, seq, _ in client.had] == [1]


def test_newest_of_two_with_one_name_wins_and_the_other_waits(tmp_path: Path) -> None:
    with Server(tmp_path) as line, Client(line.endpoint, lost_ms=300.0) as older:
        older.wait(LinkUp)
        with Client(line.endpoint) as newer:
            newer.wait(LinkUp)
            (refused,) = older.wait(Refused)
            assert isinstance(refused, Refused)
            assert "taken the name 'gate'" in refused.why
            assert older.of(LinkDown)
            end = time.monotonic() + 1.0
            while time.monotonic() < end:  # it asks again, and takes nothing away
                older.step()
                newer.step()
            line.offer(1)
            newer.get(1)
            newer.until(lambda: line.server.sessions.counts["gate"].acked == 1)
            assert len(newer.of(LinkUp)) == 1
            assert older.had == []
            assert line.server.sessions.counts["gate"].replaced == 1
        line.offer(1)
        older.get(1)
        assert older.had[-1][:2] == ("e1", 2)


def test_consumer_that_died_without_a_word_and_comes_back_is_no_second_one(tmp_path: Path) -> None:
    with Server(tmp_path) as line:
        client = Client(line.endpoint)
        client.wait(LinkUp)
        client.consumer.socket.close()
        time.sleep(0.5)  # ZeroMQ notices the end of the connection; nothing that could be waited for
        with Client(line.endpoint) as client:
            client.wait(LinkUp)
        assert line.server.sessions.counts["gate"].replaced == 0
        assert not any("taken the name" in text for _, text in line.told)


def test_after_everything_was_fetched_and_went_the_next_verdict_is_live(tmp_path: Path) -> None:
    with Server(tmp_path, "e1") as line, Client(line.endpoint) as client:
        line.offer(5)
        client.get(5)
        until(lambda: line.outbox.depth("gate") == 0)
        until(lambda: not line.outbox._ranges)  # retention is 0
    with Server(tmp_path, "e2") as line:
        for place in (("e1", 3), None):
            with Client(line.endpoint, position=place) as client:
                client.wait(LinkUp)
                line.offer(1)
                assert client.get(1)[-1] == ("e2", line.seq, True)
                lost = [Lost("e1", 4, 5)] if place else []
                assert [e for e in client.of(Lost) if e.epoch == "e1"] == lost  # type: ignore[attr-defined]
                until(lambda: line.outbox.depth("gate") == 0)


def test_disk_that_is_slower_than_the_line_costs_verdicts_that_are_counted(tmp_path: Path) -> None:
    with Server(tmp_path) as line, Client(line.endpoint, credit=1024) as client:
        client.wait(LinkUp)
        failpoints.activate(["outbox.commit.before=sleep:3@1"])
        try:
            line.offer(1)
            until(lambda: line.server.status()["waiting"] == 0)
            line.offer(10_050)
            assert line.server.dropped == 50
        finally:
            failpoints.activate([])
        line.committed(10_001)
        line.offer(1)
        client.get(10_002)
        assert [seq for _, seq, _ in client.had][-1] == 10_052
        assert client.of(Lost) == [Lost("e1", 10_002, 10_051)]


def test_what_waits_for_the_disk_goes_in_one_commit(tmp_path: Path) -> None:
    """So a PASS waits for the fsync at hand and its own, never for one of each REJECT before it."""
    with Server(tmp_path) as line, Client(line.endpoint) as client:
        failpoints.activate(["outbox.commit.before=sleep:1@1"])
        try:
            line.offer(1, REJECT)
            until(lambda: line.server.status()["waiting"] == 0)
            for _ in range(20):
                line.offer(1, REJECT)
                line.offer(1)
            client.get(41)
        finally:
            failpoints.activate([])
        full = {"durability": "full"}
        name = "edge_ad_verdict_commit_seconds_count"
        until(lambda: line.registry.get_sample_value(name, full) == 2)
        assert line.registry.get_sample_value(name, {"durability": "normal"}) == 0


def test_disk_that_hangs_at_the_stop_is_told(tmp_path: Path) -> None:
    with Server(tmp_path) as line:
        failpoints.activate(["outbox.commit.before=sleep:2@1"])
        try:
            line.offer(3)
            line.server.close(timeout_s=0.2)
        finally:
            failpoints.activate([])
        assert "not kept within 0.2 s" in line.server.failed


def test_who_is_not_named_and_who_speaks_otherwise_is_refused_in_words(
    tmp_path: Path, raw: zmq.Socket[bytes]
) -> None:
    with Server(tmp_path) as line:
        raw.connect(line.endpoint)
        for message, reason, word in (
            (hello("nobody"), "consumer", "verdicts.consumers"),
            (hello(v="2.0"), "version", "'2.0'"),
            (hello(encodings=("xml",)), "encoding", "msgpack"),
        ):
            say(raw, message)
            answer = channel.decode_from_daemon(raw.recv())
            assert isinstance(answer, Denied)
            assert (answer.reason, word in answer.why) == (reason, True)
            assert line.server.sessions.refused[reason] == 1
        say(raw, Ack("e1", 1))
        assert channel.decode_from_daemon(raw.recv()) == Bye("say Hello")
        with Client(line.endpoint, "nobody", lost_ms=100.0) as client:
            client.wait(Refused)
            until(lambda: client.step() or line.server.sessions.refused["consumer"] > 3)
            assert len(client.of(Refused)) == 1  # told once, asked for ever


def test_newer_minor_version_with_fields_that_are_not_known_is_served(
    tmp_path: Path, raw: zmq.Socket[bytes]
) -> None:
    with Server(tmp_path) as line:
        raw.connect(line.endpoint)
        raw.send(
            b'{"type":"hello","v":"1.9","consumer":"gate","instance":"x","nonce":7,"mood":"good",'
            b'"encodings":["cbor","json"]}'
        )
        answer = channel.decode_from_daemon(raw.recv())
        assert isinstance(answer, Welcome)
        assert (answer.nonce, answer.encoding, answer.epoch) == (7, "json", "e1")
        line.offer(1)
        assert b'"type":"verdict","live":true,"header":{"v":"1.1"' in raw.recv()
        say(raw, Ack("e1", 99))
        say(raw, Ack("e0", 1))
        say(raw, Beat(5))
        answer = channel.decode_from_daemon(raw.recv())
        assert isinstance(answer, Beat)
        assert answer.echo_ns == 5
        assert line.server.sessions.refused["ack"] == 2  # of what there never was
        assert line.outbox.depth("gate") == 1


def test_word_for_more_than_there_is_misses_nothing(tmp_path: Path, raw: zmq.Socket[bytes]) -> None:
    with Server(tmp_path) as line:
        line.offer(2)
        line.committed(2)
        raw.connect(line.endpoint)
        say(raw, hello(epoch="e1", seq=10**6))
        assert isinstance(channel.decode_from_daemon(raw.recv()), Welcome)
        line.offer(1)
        assert b'"seq":3' in raw.recv()


def test_gap_is_asked_for_again_and_told_where_nothing_helps(tmp_path: Path) -> None:
    """Against a daemon that leaves out what it is asked for."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as daemon:
        daemon.setsockopt(zmq.LINGER, 0)
        port = daemon.bind_to_random_port("tcp://127.0.0.1")
        with Server(tmp_path) as line, Client(f"tcp://127.0.0.1:{port}", encoding="json") as client:
            verdicts = {seq: line.server._record(outcome(seq)) for seq in range(1, 6)}

            def serve(*seqs: int) -> Hello:
                message: object = None
                while not isinstance(message, Hello):
                    until(lambda: client.step() or bool(daemon.poll(1)))
                    identity, data = daemon.recv_multipart()
                    message = channel.decode_from_consumer(data)
                welcome = Welcome(channel.VERSION, "line1", "valve", "e1", message.nonce)
                daemon.send_multipart([identity, channel.encode(welcome, "json")])
                for seq in seqs:
                    record = verdicts[seq]
                    assert record is not None
                    told = channel.encode_told(record.header, record.body, True, "json")
                    daemon.send_multipart([identity, told])
                return message

            first = serve(1, 2, 5)
            serve(1, 2, 4, 5)  # 3 is still missing, though 4 is there now
            again = serve(5)
            serve(5)
            client.wait(Lost)
            client.get(3)
            assert (first.epoch, again.epoch, again.seq) == ("", "e1", 2)
            assert [seq for _, seq, _ in client.had] == [1, 2, 5]
            assert client.of(Lost) == [Lost("e1", 3, 4)]


def test_what_went_for_room_is_told_as_lost(tmp_path: Path) -> None:
    with Server(tmp_path, max_bytes=1_000_000) as line:
        line.offer(4000)
        until(lambda: line.outbox.evicted_unfetched > 0)
        until(lambda: any("max_megabytes" in text for _, text in line.told))
        with Client(line.endpoint) as client:
            client.until(lambda: bool(client.had) and client.had[-1][1] == 4000)
        lost = client.of(Lost)
        assert all(isinstance(event, Lost) and event.epoch == "e1" for event in lost)
        gone = sum(event.last - event.first + 1 for event in lost if isinstance(event, Lost))
        assert gone + len(client.had) == 4000
        assert isinstance(client.events[1], Lost)


def test_verdict_that_cannot_be_encoded_is_counted_and_told_as_lost(tmp_path: Path) -> None:
    with Server(tmp_path) as line, Client(line.endpoint) as client:
        client.wait(LinkUp)
        line.offer(1)
        line.seq = 2
        odd = outcome(2)
        object.__setattr__(odd, "part", "\ud800")
        line.server.offer(odd)
        line.offer(1)
        client.get(2)
        assert [seq for _, seq, _ in client.had] == [1, 3]
        assert client.of(Lost) == [Lost("e1", 2, 2)]
        assert line.server.dropped == 1


def test_unknown_epoch_after_a_damaged_outbox_is_told_as_lost(tmp_path: Path) -> None:
    with Server(tmp_path, "e9") as line, Client(line.endpoint, position=("e1", 5)) as client:
        line.offer(2)
        assert client.get(2) == [("e9", 1, True), ("e9", 2, True)] or len(client.had) == 2
        assert client.of(Lost) == [Lost("e1", 6, 0)]


def test_outbox_that_fails_ends_the_channel_and_says_so(tmp_path: Path) -> None:
    failpoints.activate(["outbox.commit.before=raise:5@3"])
    try:
        with Server(tmp_path) as line, Client(line.endpoint) as client:
            client.wait(LinkUp)
            for count in (1, 2, 3):
                line.offer(1)
                if count < 3:
                    client.get(count)
            until(lambda: bool(line.fatal))
            assert "Input/output error" in line.fatal[0]
            assert line.server.failed
            assert [seq for _, seq, _ in client.had] == [1, 2]  # never told before it is kept
    finally:
        failpoints.activate([])


def limit(line: Server, more: int) -> None:
    """As with room for so many blocks more on the disk."""
    pages = line.outbox._one("PRAGMA page_count")
    assert pages is not None
    line.outbox._database.execute(f"PRAGMA max_page_count={pages[0] + more}")


def test_a_full_disk_tells_nobody_and_what_waited_is_told_as_late(tmp_path: Path) -> None:
    with Server(tmp_path) as line, Client(line.endpoint, credit=1024) as client:
        client.wait(LinkUp)
        line.offer(1)
        client.get(1)
        limit(line, 0)
        line.offer(400)
        until(lambda: bool(line.server.full))
        line.offer(10)
        end = time.monotonic() + 3 * 0.5  # it looks again meanwhile
        while time.monotonic() < end:
            client.step()
        told = len(client.had)  # as many as the last block had room for
        waiting = line.server.status()["waiting"]
        assert line.server.full.endswith("free some space on its disk")
        assert [level for level, _ in line.told if level == "error"] == ["error"]  # once
        assert told < 300 and waiting == 411 - told
        assert line.server.sessions.is_up("gate") and not line.fatal
        limit(line, 1000)
        client.get(411)
        until(lambda: not line.server.full)
        line.offer(1)
        client.get(412)
        assert [seq for _, seq, _ in client.had] == list(range(1, 413))
        assert [seq for _, seq, live in client.had[told:] if live] == [412]
        assert not client.of(Lost) and line.server.dropped == 0


def test_a_stop_on_a_full_disk_says_what_is_not_kept(tmp_path: Path) -> None:
    with Server(tmp_path) as line:
        limit(line, 0)
        line.offer(400)
        until(lambda: bool(line.server.full))
        start = time.monotonic()
        line.server.close()
        assert time.monotonic() - start < 3
        lost = 400 - line.server.sessions._tip[1]
        assert line.server.dropped == lost > 100
        assert (
            f"free some space on its disk; {lost} verdicts that waited are dropped" in line.server.failed
        )


def test_server_that_was_never_started_closes(tmp_path: Path) -> None:
    line = Server(tmp_path)
    line.server.close()
    line.server.close()


def test_endpoint_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match=r"verdicts\.endpoint"):
        VerdictConsumer("nonsense", "gate")
    with pytest.raises(OutboxError, match="e1"), Server(tmp_path):
        Server(tmp_path)


_HUGE = (2**63, 2**64 - 1, 2**64, 2**90, -(2**63), -(2**90))


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize(
    "said",
    [
        '"hello","epoch":"e0","seq":%d', '"hello","epoch":"unheard of","seq":%d', '"hello","nonce":%d',
        '"hello","sent_ns":%d', '"hello","credit":%d', '"ack","epoch":"e0","seq":%d',
        '"ack","epoch":"e1","seq":%d', '"beat","sent_ns":%d',
    ],
)  # fmt: skip
def test_numbers_beyond_all_bounds_are_refused_and_end_nothing(
    tmp_path: Path, raw: zmq.Socket[bytes], said: str, encoding: str
) -> None:
    with Server(tmp_path, "e0") as line:
        line.offer(3)
        line.committed(3)
    with Server(tmp_path, "e1") as line:
        line.offer(1)
        line.committed(1)
        raw.connect(line.endpoint)
        say(raw, hello(encodings=(encoding,)))
        raw.recv()
        about = {"v": channel.VERSION, "consumer": "gate", "instance": "raw", "nonce": 1}
        for number in _HUGE:
            data = f'{{"type":{said % number}}}'.encode()
            message = {**about, "encodings": [encoding], **msgspec.json.decode(data)}
            raw.send(msgspec.json.encode(message))
        until(lambda: line.server.sessions.refused["garbage"] == len(_HUGE) or bool(line.fatal))
        line.offer(1)
        line.committed(2)
        with Client(line.endpoint) as client:
            client.until(lambda: bool(client.had) and client.had[-1][:2] == ("e1", 2))
        assert line.fatal == []
    open_box(tmp_path, "e2").close()


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize("column", ["header", "body"])
def test_verdict_that_the_disk_changed_is_told_as_lost_and_keeps_no_other_back(
    tmp_path: Path, column: str, encoding: str
) -> None:
    with Server(tmp_path, "e1") as line:
        line.offer(3, REJECT)
        line.committed(3)
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as database, database:
        database.execute(f"UPDATE verdicts SET {column} = x'7b22ff00' WHERE seq = 2")
    database.close()
    with Server(tmp_path, "e2") as line, Client(line.endpoint, encoding=encoding) as client:
        client.get(2)
        line.offer(1)
        client.get(3)
        assert [(e, s) for e, s, _ in client.had] == [("e1", 1), ("e1", 3), ("e2", 1)]
        assert client.of(Lost) == [Lost("e1", 2, 2)]
        assert line.server.sessions.damaged == 1
        assert any("verdict 2 of epoch e1 is damaged" in text for _, text in line.told)
        assert line.fatal == []


def _frames(rng: random.Random) -> list[bytes]:
    """What someone sends who wants to do harm: noise, damaged messages, deep nests, many frames."""
    kind = rng.randrange(6)
    if kind == 0:
        return [rng.randbytes(rng.randrange(200))]
    if kind == 1:
        return [rng.randbytes(8) for _ in range(rng.randrange(5))]
    if kind == 2:
        return [b'{"a":' * rng.randrange(2000)]
    messages = (
        hello(), hello("x" * 300), Ack("e1", rng.randrange(10)), Beat(1), Bye(),
        hello(v="9.9"), hello(credit=-5, epoch="e1", seq=-7), Ack("e1", -(2**60)), Ack("e1", 2**62),
    )  # fmt: skip
    data = bytearray(channel.encode(rng.choice(messages), rng.choice(("json", "msgpack"))))
    if kind < 5:
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    return [bytes(data[: rng.randrange(len(data) + 1)] if kind == 3 else data)]


def _fuzz(tmp_path: Path, raw: zmq.Socket[bytes], count: int) -> None:
    rng = random.Random(7)
    with Server(tmp_path, consumers=("gate", "mes")) as line, Client(line.endpoint, "mes") as client:
        client.wait(LinkUp)
        raw.connect(line.endpoint)
        sent, memory = 0, 0
        while sent < count:
            for _ in range(100):
                raw.send_multipart(_frames(rng) or [b""])
            sent += 100
            line.offer(1)
            client.get(line.seq)
            while raw.poll(0):
                raw.recv()
            if sent == count // 2:
                memory = psutil.Process(os.getpid()).memory_info().rss
        assert line.fatal == []
        assert [seq for _, seq, _ in client.had] == list(range(1, line.seq + 1))
        assert line.server.sessions.refused["garbage"] > count // 10
        assert len(client.of(LinkUp)) == 1
        if count > 50_000:
            assert psutil.Process(os.getpid()).memory_info().rss - memory < 16 * 2**20


def test_2000_frames_of_someone_who_wants_to_do_harm(tmp_path: Path, raw: zmq.Socket[bytes]) -> None:
    _fuzz(tmp_path, raw, 2000)


@pytest.mark.slow
def test_100000_frames_of_someone_who_wants_to_do_harm(tmp_path: Path, raw: zmq.Socket[bytes]) -> None:
    _fuzz(tmp_path, raw, 100_000)


@given(st.binary(max_size=200))
def test_bytes_are_understood_or_refused(data: bytes) -> None:
    for decode in (channel.decode_from_consumer, channel.decode_from_daemon):
        try:
            decode(data)
        except DeliveryError as error:
            assert "not understood" in str(error)


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_messages_come_back_as_they_were(encoding: str) -> None:
    for message in (hello(seq=3), Ack("e", 4), Beat(1, 2, 3), Bye("x")):
        assert channel.decode_from_consumer(channel.encode(message, encoding)) == message
    for answer in (Gone("e", 1, 2), Denied("version", "old"), Welcome("1.0", "s", "p", "e", 3)):
        assert channel.decode_from_daemon(channel.encode(answer, encoding)) == answer
