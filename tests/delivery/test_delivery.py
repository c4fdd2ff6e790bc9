"""Real sockets: control, scores and the lock of the state directory."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import zmq

from edge_ad.delivery import wire
from edge_ad.delivery.control import ControlClient, ControlServer
from edge_ad.delivery.lock import StateLock, running_pid
from edge_ad.delivery.scores import ScorePublisher, ScoreSubscriber
from edge_ad.delivery.wire import VERSION, Header, ScoreBody
from edge_ad.errors import ConfigError, DeliveryError, DeviceError

BODY = wire.encode(ScoreBody("PASS", "", 1.0, 2.0))


def header(seq: int) -> bytes:
    return wire.encode(Header(wire.VERSION, "line1", "e1", seq, f"P{seq}", 0, 0, "valve", ""))


class Desk:
    """A control handler with a slow command and a failing one."""

    def __init__(self) -> None:
        self.slow: Future[dict[str, Any]] = Future()
        self.publisher: ScorePublisher | None = None

    def __call__(self, command: str, args: dict[str, Any]) -> dict[str, Any] | Future[dict[str, Any]]:
        if command == "slow":
            return self.slow
        if command == "refuse":
            raise ConfigError("line.toml: station: no")
        if command == "odd":
            raise ConfigError("caf\udce9.toml: no")  # as a path that is not UTF-8 is shown
        if command == "crash":
            raise ZeroDivisionError("oops")
        if command == "sync" and self.publisher is not None:
            self.publisher.send_sync(args["token"])
        return {"command": command, **args}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[tuple[Desk, str]]:
    desk = Desk()
    server = ControlServer(f"ipc://{tmp_path}/c.sock", desk)
    server.start()
    yield desk, server.endpoint
    server.close()


def test_control_answers_and_refuses_in_words(desk: tuple[Desk, str]) -> None:
    with ControlClient(desk[1]) as client:
        assert client.request("status", x=1) == {"command": "status", "x": 1}
        with pytest.raises(DeliveryError, match=r"line.toml: station: no"):
            client.request("refuse")
        with pytest.raises(DeliveryError, match=r"internal error.*oops"):
            client.request("crash")
        assert client.request("status") == {"command": "status"}


def test_refusal_that_names_a_path_that_is_not_utf8_arrives(desk: tuple[Desk, str]) -> None:
    with ControlClient(desk[1]) as client:
        with pytest.raises(DeliveryError, match=r"caf\\udce9\.toml: no"):
            client.request("odd")
        assert client.request("status") == {"command": "status"}


def test_command_that_a_stop_cancels_is_refused_and_others_are_served(desk: tuple[Desk, str]) -> None:
    with ControlClient(desk[1]) as client:
        desk[0].slow.cancel()
        with pytest.raises(DeliveryError, match="stopped before"):
            client.request("slow")
        assert client.request("status") == {"command": "status"}


def test_control_serves_others_while_a_slow_command_runs(desk: tuple[Desk, str]) -> None:
    with ControlClient(desk[1]) as slow, ControlClient(desk[1]) as quick:
        answers: list[dict[str, Any]] = []
        thread = threading.Thread(target=lambda: answers.append(slow.request("slow", timeout_s=10)))
        thread.start()
        assert quick.request("status") == {"command": "status"}
        assert answers == []
        desk[0].slow.set_result({"done": True})
        thread.join(10)
        assert answers == [{"done": True}]


def test_late_answer_is_not_taken_for_the_next_one(desk: tuple[Desk, str]) -> None:
    with ControlClient(desk[1]) as client:
        with pytest.raises(DeliveryError, match=r"no answer to 'slow' within 0.05 s.*edge-ad run"):
            client.request("slow", timeout_s=0.05)
        desk[0].slow.set_result({"done": True})
        assert client.request("status") == {"command": "status"}


def test_control_survives_garbage_and_another_major_version(desk: tuple[Desk, str]) -> None:
    with zmq.Context.instance().socket(zmq.DEALER) as raw, ControlClient(desk[1]) as client:
        raw.linger = 0
        raw.connect(desk[1])
        raw.send(b"\xff\x00")
        assert "not understood" in wire.decode_reply(raw.recv()).error
        raw.send(b'{"v":"9.1","id":3,"command":"status"}')
        assert "'9.1'" in wire.decode_reply(raw.recv()).error
        raw.send_multipart([b"a", b"b"])
        assert "one frame" in wire.decode_reply(raw.recv()).error
        assert client.request("status") == {"command": "status"}


def test_nobody_there_is_said_within_the_timeout(tmp_path: Path) -> None:
    with (
        ControlClient(f"ipc://{tmp_path}/none.sock", timeout_s=0.05) as client,
        pytest.raises(DeliveryError, match=r"none\.sock.*is 'edge-ad run' up"),
    ):
        client.request("status")


def test_ipc_socket_is_for_owner_and_group_only(tmp_path: Path, desk: tuple[Desk, str]) -> None:
    assert stat.S_IMODE((tmp_path / "c.sock").stat().st_mode) == 0o770


def test_occupied_endpoints_are_refused_with_the_key(tmp_path: Path, desk: tuple[Desk, str]) -> None:
    with pytest.raises(DeliveryError, match=r"control\.endpoint.*in use") as caught:
        ControlServer(desk[1], desk[0])
    assert caught.value.exit_code == 5
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(DeliveryError, match=r"scores\.endpoint.*in use"):
            ScorePublisher(f"tcp://127.0.0.1:{taken.getsockname()[1]}")
    with pytest.raises(DeliveryError, match="longer than 107 bytes"):
        ScorePublisher(f"ipc://{tmp_path}/{'x' * 200}")
    with pytest.raises(DeliveryError, match=r"scores\.endpoint: nonsense"):
        ScorePublisher("nonsense")


def test_ipc_path_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s.sock"))
    publisher = ScorePublisher(f"ipc://{tmp_path}/s.sock")
    publisher.close()


def test_after_sync_nothing_is_lost(desk: tuple[Desk, str]) -> None:
    publisher = ScorePublisher("tcp://127.0.0.1:0")
    desk[0].publisher = publisher
    with ControlClient(desk[1]) as control, ScoreSubscriber(publisher.endpoint) as every:
        rejects = ScoreSubscriber(publisher.endpoint, ["rejects"])
        every.sync(control)
        rejects.sync(control)
        for seq in range(1, 1001):
            publisher.send(header(seq), BODY, rejected=seq % 10 == 0)
        seen = [message for _ in range(1000) if (message := every.receive(5)) is not None]
        assert [h.seq for _, h, _ in seen] == list(range(1, 1001))
        assert {topic for topic, _, _ in seen} == {"scores"}
        bad = [message for _ in range(100) if (message := rejects.receive(5)) is not None]
        assert [(topic, h.seq) for topic, h, _ in bad] == [("rejects", s) for s in range(10, 1001, 10)]
        assert every.receive(0.05) is None
        rejects.close()
    publisher.close()


def test_parts_that_arrive_during_sync_are_kept(desk: tuple[Desk, str]) -> None:
    publisher = ScorePublisher("tcp://127.0.0.1:0")
    desk[0].publisher = publisher
    with ControlClient(desk[1]) as control, ScoreSubscriber(publisher.endpoint) as every:
        every.sync(control)
        publisher.send(header(1), BODY, rejected=False)
        time.sleep(0.05)
        every.sync(control)
        message = every.receive(5)
        assert message is not None
        assert message[1].seq == 1
    publisher.close()


def test_sync_with_the_wrong_endpoint_says_so(desk: tuple[Desk, str]) -> None:
    with (
        ControlClient(desk[1]) as control,
        ScoreSubscriber("tcp://127.0.0.1:9") as nowhere,
        pytest.raises(DeliveryError, match=r"no echo.*scores\.endpoint"),
    ):
        nowhere.sync(control, timeout_s=0.3)


def test_subscriber_counts_what_it_does_not_understand() -> None:
    with zmq.Context.instance().socket(zmq.XPUB) as raw:
        raw.linger = 0
        port = raw.bind_to_random_port("tcp://127.0.0.1")
        with ScoreSubscriber(f"tcp://127.0.0.1:{port}") as every:
            raw.recv()  # the subscription has arrived
            raw.send_multipart([b"scores", b"junk", BODY])
            raw.send_multipart([b"scores", header(1)])
            raw.send_multipart([b"scores", header(1).replace(VERSION.encode(), b"2.0"), BODY])
            raw.send_multipart([b"scores", header(2), BODY])
            message = every.receive(5)
            assert message is not None
            assert message[1].seq == 2
            assert every.skipped == 3


def test_what_a_slow_subscriber_has_not_taken_is_waited_for_at_the_end() -> None:
    code = (
        "from edge_ad.delivery.scores import ScorePublisher; p = ScorePublisher('tcp://127.0.0.1:0')\n"
        "print(p.endpoint, flush=True); input()\n"
        "for i in range(9000): p.send(b'%d' % i, b'x' * 2000, False)\n"
        "p.close(20_000)"
    )
    with (
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as publisher,
        zmq.Context.instance().socket(zmq.SUB) as slow,
    ):
        assert publisher.stdin is not None
        assert publisher.stdout is not None
        slow.linger = 0
        slow.rcvhwm = 10
        slow.subscribe(b"")
        slow.connect(publisher.stdout.readline().strip())
        time.sleep(0.3)  # the subscription arrives
        publisher.stdin.write("\n")
        publisher.stdin.flush()
        time.sleep(0.5)
        taken = 0
        while slow.poll(2000 if publisher.poll() is None else 200):
            slow.recv_multipart()
            taken += 1
        assert taken == 9000


def test_unknown_topic_is_refused() -> None:
    with pytest.raises(DeliveryError, match="'rejected'"):
        ScoreSubscriber("tcp://127.0.0.1:9", ["rejected"])


def test_second_daemon_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from edge_ad.delivery.lock import StateLock;"
        "lock = StateLock(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert running_pid(tmp_path) == holder.pid
        with pytest.raises(DeliveryError, match=f"pid {holder.pid}"):
            StateLock(tmp_path)
        holder.kill()
    assert running_pid(tmp_path) is None
    lock = StateLock(tmp_path)
    assert running_pid(tmp_path) == os.getpid()
    lock.release()
    assert running_pid(tmp_path) is None


def test_state_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match=r"state_dir: .*file/state.*another") as caught:
        StateLock(tmp_path / "file" / "state")
    assert caught.value.exit_code == 5
    assert running_pid(tmp_path / "file" / "state") is None
