"""Scores: late joiners, what a slow subscriber knows of its losses, memory of who publishes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from edge_ad.delivery import wire
from edge_ad.delivery.control import ControlClient, ControlServer
from edge_ad.delivery.scores import Message, ScorePublisher, ScoreSubscriber
from edge_ad.delivery.wire import Header, ScoreBody
from edge_ad.errors import DeliveryError

# A publisher with a control socket, which publishes as many parts as a line on its input says; one in
# ten is a reject. A body of about 2 kB, as of 24 tiles.
PUBLISHER = """
import sys
from edge_ad.delivery import wire
from edge_ad.delivery.control import ControlServer
from edge_ad.delivery.scores import ScorePublisher
from edge_ad.delivery.wire import Header, ScoreBody

publisher = ScorePublisher("tcp://127.0.0.1:0", int(sys.argv[2]))

def answer(command, args):
    if command == "sync":
        publisher.send_sync(args["token"])
    elif command == "missed":
        publisher.report_missed(args["count"])
    elif command == "snapshot":
        return {"messages": publisher.snapshot()}
    return {"missed": publisher.missed, "overflows": publisher.overflows}

control = ControlServer(f"ipc://{sys.argv[1]}", answer)
control.start()
print(publisher.endpoint, flush=True)
seq = rejects = 0
distances = [[1.2345678901234] * 5] * 24
for line in sys.stdin:
    for _ in range(int(line)):
        seq += 1
        rejects += seq % 10 == 0
        header = Header(wire.VERSION, "line1", "e1", seq, f"P{seq:08d}", 0, 0, "valve", "0" * 64)
        body = ScoreBody("PASS", "", 1.0, 2.0, rejects=rejects, distances=distances)
        publisher.send(wire.encode(header), wire.encode(body), seq % 10 == 0, "valve")
    print(seq, flush=True)
"""


class Published:
    """The publishing process."""

    def __init__(self, root: Path, high_water_mark: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, str(root / "c.sock"), str(high_water_mark)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdin is not None and self.process.stdout is not None
        self._in, self._out = self.process.stdin, self.process.stdout
        self.endpoint = self._out.readline().strip()
        self.control = ControlClient(f"ipc://{root / 'c.sock'}", timeout_s=60)

    def send(self, count: int) -> None:
        self.begin(count)
        self.finish()

    def begin(self, count: int) -> None:
        self._in.write(f"{count}\n")
        self._in.flush()

    def finish(self) -> None:
        assert self._out.readline()

    def megabytes(self) -> float:
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def counts(self) -> dict[str, Any]:
        return self.control.request("status")

    def close(self) -> None:
        self.control.close()
        self._in.close()
        self.process.kill()
        self.process.wait()
        self._out.close()


@pytest.fixture
def publish(tmp_path: Path) -> Iterator[Callable[[int], Published]]:
    made: list[Published] = []

    def publish(high_water_mark: int) -> Published:
        made.append(Published(tmp_path, high_water_mark))
        return made[-1]

    yield publish
    for published in made:
        published.close()


class Local:
    """A publisher in this process with a control socket; what is published is said in `send`."""

    def __init__(self, root: Path, epoch: str = "e1", endpoint: str = "tcp://127.0.0.1:0") -> None:
        self.publisher = ScorePublisher(endpoint)
        self.endpoint = self.publisher.endpoint
        self.epoch = epoch
        self.seq = self.rejects = 0
        self._server = ControlServer(f"ipc://{root / f'{epoch}.sock'}", self._answer)
        self._server.start()
        self.control = ControlClient(self._server.endpoint)

    def _answer(self, command: str, args: dict[str, Any]) -> dict[str, Any]:
        if command == "sync":
            self.publisher.send_sync(args["token"])
        return {"messages": self.publisher.snapshot()} if command == "snapshot" else {}

    def send(self, count: int = 1, product: str = "valve", rejected: bool = False) -> None:
        for _ in range(count):
            self.seq += 1
            self.rejects += rejected
            header = Header(
                wire.VERSION, "line1", self.epoch, self.seq, f"P{self.seq}", 0, 0, product, ""
            )
            body = ScoreBody("REJECT" if rejected else "PASS", "", 1.0, 2.0, rejects=self.rejects)
            self.publisher.send(wire.encode(header), wire.encode(body), rejected, product)

    def close(self) -> None:
        self.control.close()
        self._server.close()
        self.publisher.close(0)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    local = Local(tmp_path)
    yield local
    local.close()


def taken(subscriber: ScoreSubscriber, count: int) -> list[Message]:
    messages = [m for _ in range(count) if (m := subscriber.receive(10)) is not None]
    assert len(messages) == count
    return messages


def seqs(messages: list[Message]) -> list[int]:
    return [header.seq for _, header, _ in messages]


def test_a_late_joiner_begins_with_the_last_part_of_each_product(local: Local) -> None:
    local.send(10, "valve")
    local.send(10, "disc")
    with ScoreSubscriber(local.endpoint) as late:
        late.start_from(local.control)
        local.send(3, "disc")
        assert seqs(taken(late, 5)) == [10, 20, 21, 22, 23]
        assert late.receive(0.05) is None
        assert late.lost == 0


def test_a_late_joiner_to_rejects_begins_with_the_last_reject(local: Local) -> None:
    local.send(5)
    local.send(1, rejected=True)
    local.send(5)
    with ScoreSubscriber(local.endpoint, ["rejects"]) as late:
        late.start_from(local.control)
        local.send(1, rejected=True)
        messages = taken(late, 2)
        assert [(topic, header.seq) for topic, header, _ in messages] == [
            ("rejects", 6),
            ("rejects", 12),
        ]
        assert late.lost == 0


def test_before_the_first_part_there_is_nothing_to_begin_with(local: Local) -> None:
    with ScoreSubscriber(local.endpoint) as early:
        early.start_from(local.control)
        assert early.receive(0.05) is None
        local.send(2)
        assert seqs(taken(early, 2)) == [1, 2]
        assert early.lost == 0


def test_parts_that_came_in_before_the_snapshot_are_not_told_twice(local: Local) -> None:
    with ScoreSubscriber(local.endpoint) as subscriber:
        subscriber.sync(local.control)
        local.send(5)
        subscriber.sync(local.control)  # keeps what comes meanwhile
        subscriber.start_from(local.control)
        local.send(1)
        assert seqs(taken(subscriber, 2)) == [5, 6]
        subscriber.start_from(local.control)  # it has missed nothing
        assert subscriber.receive(0.05) is None
        assert subscriber.lost == 0


def test_a_new_epoch_goes_on_and_counts_what_was_missed_of_it(local: Local, tmp_path: Path) -> None:
    with ScoreSubscriber(local.endpoint) as subscriber:
        subscriber.start_from(local.control)
        local.send(3)
        assert seqs(taken(subscriber, 3)) == [1, 2, 3]
        local.publisher.close(0)
        again = Local(tmp_path, "e2", local.endpoint)
        again.send(4)  # while nobody listens
        subscriber.start_from(again.control, timeout_s=20)
        messages = taken(subscriber, 1)
        assert [(h.epoch, h.seq) for _, h, _ in messages] == [("e2", 4)]
        assert subscriber.lost == 3
        again.close()


def account(published: Published, parts: int, pause_s: float) -> tuple[int, int, list[float]]:
    """Publish so many parts to a subscriber that takes its time: received, lost, and the publishing
    process's memory (MB) during it."""
    with ScoreSubscriber(published.endpoint, high_water_mark=1000) as slow:
        slow.start_from(published.control)
        published.send(10_000)  # past the marks of both sides, and the buffers of TCP between
        sizes = [published.megabytes()]
        received = 0
        for _ in range(10):
            published.begin((parts - 10_000) // 10)
            for _ in range(500):
                received += slow.receive(10) is not None
            time.sleep(pause_s)
            published.finish()
            sizes.append(published.megabytes())
        slow.start_from(published.control, timeout_s=60)
        while slow.receive(0.2) is not None:
            received += 1
        assert published.counts()["missed"] == slow.lost
        return received, slow.lost, sizes


def test_a_slow_subscriber_knows_what_it_lost_and_so_does_the_daemon(publish: Any) -> None:
    published = publish(500)
    received, lost, sizes = account(published, 20_000, 0.0)
    assert received + lost == 20_000
    assert lost > 5000 and received > 500
    assert published.counts()["overflows"] > 0
    assert max(sizes) < sizes[0] + 20, sizes


@pytest.mark.slow
def test_a_million_parts_to_a_slow_subscriber_leave_memory_flat(publish: Any) -> None:
    published = publish(1000)
    received, lost, sizes = account(published, 1_000_000, 1.0)
    assert received + lost == 1_000_000
    assert lost > 500_000
    assert published.counts()["overflows"] > 0
    assert max(sizes) < sizes[0] + 20, sizes


def test_a_slow_subscriber_takes_nothing_from_a_quick_one(publish: Any) -> None:
    published = publish(500)
    with (
        ScoreSubscriber(published.endpoint, high_water_mark=10) as slow,
        ScoreSubscriber(published.endpoint) as quick,
    ):
        slow.start_from(published.control)
        quick.start_from(published.control)
        for _ in range(100):
            published.send(100)
            taken(quick, 100)
        assert quick.lost == 0
        slow.start_from(published.control)
        while slow.receive(0.2) is not None:
            pass
        assert slow.lost > 0


def test_a_daemon_without_snapshots_is_named(tmp_path: Path, local: Local) -> None:
    def old(command: str, args: dict[str, Any]) -> dict[str, Any]:
        if command != "sync":
            raise DeliveryError(f"unknown command {command!r}; is the client newer than edge_ad 0.1?")
        local.publisher.send_sync(args["token"])
        return {}

    server = ControlServer(f"ipc://{tmp_path / 'old.sock'}", old)
    server.start()
    with (
        ControlClient(server.endpoint) as control,
        ScoreSubscriber(local.endpoint) as subscriber,
        pytest.raises(DeliveryError, match="unknown command 'snapshot'"),
    ):
        subscriber.start_from(control)
    server.close()
