"""Who gets at a daemon's sockets: groups, second daemons, stolen files, garbage."""

from __future__ import annotations

import grp
import json
import os
import random
import socket
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import zmq
from daemon_line import BLACK, Line, good, wait_for
from tiny_bundle import make_bundle
from tiny_station import edge_ad, write_station

from edge_ad.check import check_station
from edge_ad.config import load_station
from edge_ad.delivery import wire
from edge_ad.delivery.access import describe_access
from edge_ad.delivery.control import ControlClient, ControlServer
from edge_ad.delivery.curve import client_keys, station_keys, write_pair
from edge_ad.delivery.endpoint import Access
from edge_ad.delivery.scores import ScorePublisher, ScoreSubscriber
from edge_ad.errors import ConfigError, DeliveryError


def another_group() -> str:
    """A group that is not this process's first: one it may give files to."""
    if os.geteuid() == 0:
        return next(group.gr_name for group in grp.getgrall() if group.gr_gid != os.getegid())
    others = [group for group in os.getgroups() if group != os.getegid()]
    return grp.getgrgid(others[0] if others else os.getegid()).gr_name


def test_ipc_sockets_are_handed_to_the_group(tmp_path: Path) -> None:
    name = another_group()
    publisher = ScorePublisher(f"ipc://{tmp_path}/s.sock", access=Access(name))
    found = (tmp_path / "s.sock").stat()
    assert stat.S_IMODE(found.st_mode) == 0o770
    assert found.st_gid == grp.getgrnam(name).gr_gid
    publisher.close()


def test_a_group_that_is_unknown_or_not_ours_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"group: no group .*'nobody-has-it'; 'groupadd nobody-has-it'"
    ):
        ScorePublisher(f"ipc://{tmp_path}/s.sock", access=Access("nobody-has-it"))
    code = (
        "import os, sys; from edge_ad.delivery.scores import ScorePublisher\n"
        "from edge_ad.delivery.endpoint import Access; from edge_ad.errors import ConfigError\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(54321); os.setuid(54321)\n"
        "try: ScorePublisher(f'ipc://{sys.argv[1]}', access=Access(sys.argv[2]))\n"
        "except ConfigError as error: print(error)"
    )
    foreign = next(g.gr_name for g in grp.getgrall() if g.gr_gid not in (os.getegid(), *os.getgroups()))
    with tempfile.TemporaryDirectory() as place:  # tmp_path is for its owner only
        Path(place).chmod(0o777)
        done = subprocess.run(
            [sys.executable, "-c", code, f"{place}/t.sock", foreign], capture_output=True, text=True
        )
    assert f"may not give {place}/t.sock to group '{foreign}'" in done.stdout, done
    assert f"usermod -aG {foreign}" in done.stdout


def test_sockets_without_a_file_or_of_other_transports_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"ipc://@edge_ad has no file.*give a path"):
        ScorePublisher("ipc://@edge_ad")
    with pytest.raises(DeliveryError, match=r"udp://127\.0\.0\.1:1 is no endpoint; give tcp:.*ipc:"):
        ScorePublisher("udp://127.0.0.1:1")


def test_a_second_daemon_is_refused_by_the_state_directory_and_by_the_sockets(tmp_path: Path) -> None:
    scores = f"ipc://{tmp_path}/scores.sock"
    with Line(tmp_path / "s", options={"scores": {"endpoint": scores}}) as line:
        second = Line(tmp_path / "s", options={"scores": {"endpoint": scores}})
        with pytest.raises(
            DeliveryError, match=rf"belongs to the running daemon with pid {os.getpid()}"
        ):
            second.daemon.start()
        elsewhere = Line(tmp_path / "other", options={"scores": {"endpoint": scores}})
        with pytest.raises(DeliveryError, match=r"scores\.endpoint: .*scores\.sock is in use"):
            elsewhere.daemon.start()
        control = {"control": {"endpoint": line.station.control_endpoint}}
        elsewhere = Line(tmp_path / "other", options=control)
        with pytest.raises(DeliveryError, match=r"control\.endpoint: .*control\.sock is in use"):
            elsewhere.daemon.start()
        line.feed(good(0))
        assert line.verdicts(1) == ["FAULT uncalibrated"]


def test_a_stolen_socket_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scores = tmp_path / "scores.sock"
    with Line(tmp_path / "s", options={"scores": {"endpoint": f"ipc://{scores}"}}) as line:
        assert line.metric("edge_ad_socket_stolen", socket="scores") == 0
        assert line.control.request("status")["stolen"] == []
        scores.unlink()
        thief = ScorePublisher(f"ipc://{scores}")
        wait_for(lambda: "scores: the socket's file was removed or replaced" in caplog.text)
        assert line.metric("edge_ad_socket_stolen", socket="scores") == 1
        assert line.metric("edge_ad_socket_stolen", socket="control") == 0
        assert line.control.request("status")["stolen"] == ["scores"]
        assert caplog.text.count("removed or replaced") == 1
        thief.close()


def test_a_daemon_with_keys_serves_clients_on_file_and_its_own_commands(tmp_path: Path) -> None:
    write_pair(tmp_path / "keys", "station")
    write_pair(tmp_path / "clients", "bridge")
    write_pair(tmp_path / "elsewhere", "stranger")
    secret = (tmp_path / "clients" / "bridge.key_secret").rename(tmp_path / "bridge.key_secret")
    curve = {
        "secret": str(tmp_path / "keys" / "station.key_secret"),
        "clients": str(tmp_path / "clients"),
    }
    make_bundle(tmp_path / "s")
    options = {"curve": curve, "scores": {"endpoint": "tcp://*:0"}}
    keys = client_keys(secret, tmp_path / "keys" / "station.key")
    with Line(tmp_path / "s", options=options, keys=keys) as line:
        strange = client_keys(
            tmp_path / "elsewhere" / "stranger.key_secret", tmp_path / "keys" / "station.key"
        )
        with ScoreSubscriber(
            line.daemon.channels.scores.endpoint.replace("0.0.0.0", "127.0.0.1"), keys=strange
        ):
            wait_for(lambda: (line.metric("edge_ad_denied_total", socket="scores") or 0) > 0)
            line.feed(good(0), BLACK)
            assert line.verdicts(2) == ["PASS", "REJECT score"]
        assert line.control.request("snapshot")["messages"][0]["topic"] == "scores"


def test_keys_are_made_listed_and_shown(tmp_path: Path) -> None:
    made = edge_ad("keys", "new", "bridge", "-o", tmp_path / "clients")
    assert made.returncode == 0 and "bridge.key_secret" in made.stdout
    again = edge_ad("keys", "new", "bridge", "-o", tmp_path / "clients")
    assert again.returncode == 2 and "exists already" in again.stderr
    shown = edge_ad("keys", "public", tmp_path / "clients" / "bridge.key_secret").stdout
    listed = edge_ad("keys", "list", tmp_path / "clients").stdout
    assert listed == f"{shown.strip()}  bridge\n"
    missing = edge_ad("keys", "list", tmp_path / "none")
    assert missing.returncode == 2 and "no directory of public keys" in missing.stderr


def garbage(rng: random.Random) -> list[bytes]:
    """A message that no client sends, or nearly one."""
    near: dict[str, Any] = {"v": wire.VERSION, "id": 1, "command": "status", "args": {}}
    kind = rng.randrange(8)
    if kind == 0:
        return [rng.randbytes(rng.randrange(200))]
    if kind == 1:
        return [rng.randbytes(5) for _ in range(rng.randrange(2, 9))]
    if kind == 2:
        near["v"] = rng.choice(["0.9", "2.0", "", "x" * 3000, 7, None])
    elif kind == 3:
        near["id"] = rng.choice([-1, 2**70, 1.5, "1", None, [], {}])
    elif kind == 4:
        near["command"] = rng.choice(["", "stop\0", "snapsho", "\ud800", 5, "x" * 100_000])
    elif kind == 5:
        near["args"] = rng.choice([[], "x", None, 5])
    elif kind == 6:
        near["command"] = rng.choice(["collect", "missed"])
        near["args"] = {
            rng.choice(["parts", "directory", "count"]): rng.choice(
                [None, -1, 10**15, "", "relative", "/\0", [1], {"a": 1}, "é" * 500]
            )
        }
    else:
        return [b'{"v":"1.1","id":1,"command":"status","args":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}"]
    text = json.dumps(near).encode()
    return [text[: rng.randrange(len(text))] if rng.random() < 0.3 else text]


@pytest.mark.parametrize("count", [2000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_garbage_at_the_control_socket_is_refused_counted_and_disturbs_nobody(
    tmp_path: Path, count: int
) -> None:
    make_bundle(tmp_path / "s")
    rng = random.Random(7)
    with Line(tmp_path / "s") as line, zmq.Context.instance().socket(zmq.DEALER) as raw:
        raw.linger = 0
        raw.connect(line.station.control_endpoint)
        answered, sizes = 0, []
        for number in range(count):
            raw.send_multipart(garbage(rng))
            if number % 10 == 0:  # answers that nobody takes pile up meanwhile
                while raw.poll(0):
                    raw.recv_multipart()
                    answered += 1
            if number % (count // 10) == 0:
                line.feed(good(number), BLACK)
                assert line.verdicts(2) == ["PASS", "REJECT score"]
                sizes.append(psutil.Process().memory_info().rss / 1e6)
        with ControlClient(line.station.control_endpoint, timeout_s=60) as client:
            assert client.request("status")["state"] == "RUNNING"
        wait_for(lambda: (line.metric("edge_ad_control_refused_total") or 0) > count / 2, 60)
        assert answered > 0
        assert max(sizes) < sizes[1] + 50, sizes


def test_commands_that_take_time_are_bounded(tmp_path: Path) -> None:
    never: Future[dict[str, Any]] = Future()
    server = ControlServer(
        f"ipc://{tmp_path}/c.sock", lambda command, args: never if command == "slow" else {}
    )
    server.start()
    with zmq.Context.instance().socket(zmq.DEALER) as raw:
        raw.linger = 0
        raw.connect(server.endpoint)
        for number in range(100):
            raw.send(wire.encode(wire.Request(wire.VERSION, number, "slow")))
        replies = [wire.decode_reply(raw.recv()) for _ in range(36) if raw.poll(10_000)]
        assert {reply.ok for reply in replies} == {False} and "64 commands" in replies[0].error
        assert server.refused == 36
        never.set_result({})
        done = [wire.decode_reply(raw.recv()) for _ in range(30) if raw.poll(10_000)]
        assert len(done) == 30 and {reply.ok for reply in done} == {True}
        with ControlClient(server.endpoint) as client:
            assert client.request("quick") == {}
    server.close()


def test_an_answer_that_cannot_be_sent_is_refused_and_ends_nothing(tmp_path: Path) -> None:
    done: Future[dict[str, Any]] = Future()
    done.set_result({"path": "\udcff"})  # as of a file whose name is not UTF-8
    server = ControlServer(
        f"ipc://{tmp_path}/c.sock", lambda command, args: done if command == "slow" else {}
    )
    server.start()
    with ControlClient(server.endpoint) as client:
        with pytest.raises(DeliveryError, match="internal error"):
            client.request("slow")
        assert client.request("quick") == {}
    server.close()


def test_requests_that_are_too_large_end_their_connection_only(tmp_path: Path) -> None:
    server = ControlServer(f"ipc://{tmp_path}/c.sock", lambda command, args: {})
    server.start()
    with zmq.Context.instance().socket(zmq.DEALER) as raw, ControlClient(server.endpoint) as client:
        raw.linger = 0
        raw.connect(server.endpoint)
        raw.send(b"x" * 2_000_000)
        assert not raw.poll(200)
        assert client.request("quick") == {}
    server.close()


def test_a_daemon_that_would_be_open_to_the_network_does_not_start(tmp_path: Path) -> None:
    station = write_station(tmp_path)
    text = (tmp_path / "line.toml").read_text()
    (tmp_path / "line.toml").write_text(text.replace("tcp://127.0.0.1:0", "tcp://*:0"))
    done = edge_ad("run", "-c", tmp_path / "line.toml")
    assert done.returncode == 2
    assert "scores.endpoint: tcp://*:0 is open to the network" in done.stderr
    assert "edge-ad keys new" in done.stderr and "Traceback" not in done.stderr
    checked = {f.name: f for f in check_station(load_station(tmp_path / "line.toml"))}["access"]
    assert checked.state == "fail" and "is open to the network" in checked.text
    assert not (station.state_path / "control.sock").exists()


def test_what_the_station_file_says_of_keys_is_checked(tmp_path: Path) -> None:
    station = write_station(tmp_path)
    checked = {f.name: f for f in check_station(station)}["access"]
    assert (checked.state, checked.text) == (
        "ok", "ipc: group of the process; TCP: this machine, without keys"
    )  # fmt: skip
    text = (tmp_path / "line.toml").read_text()
    (tmp_path / "line.toml").write_text(f'{text}[curve]\nclients = "clients"\n')
    with pytest.raises(ConfigError, match=r"line\.toml: curve\.clients: needs .*set curve\.secret"):
        load_station(tmp_path / "line.toml")
    (tmp_path / "line.toml").write_text(
        f'group = "no-such-group"\n{text}[curve]\nsecret = "keys/a.key_secret"\nclients = "clients"\n'
    )
    station = load_station(tmp_path / "line.toml")
    with pytest.raises(ConfigError, match="no-such-group"):
        describe_access(station)
    station = msgspec.structs.replace(station, group="")
    with pytest.raises(ConfigError, match=r"a\.key_secret: cannot be read"):
        describe_access(station)
    write_pair(tmp_path / "keys", "a")
    write_pair(tmp_path / "clients", "bridge")
    assert describe_access(station).endswith("the station's own key and 1 clients' ['bridge']")
    (tmp_path / "keys" / "a.key_secret").chmod(0o644)
    done = edge_ad("run", "-c", tmp_path / "line.toml")
    assert done.returncode == 2 and "no-such-group" not in done.stderr and "mode 0644" in done.stderr


def test_commands_reach_a_control_socket_on_tcp_with_the_stations_own_key(tmp_path: Path) -> None:
    write_pair(tmp_path / "keys", "station")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    write_station(tmp_path)
    text = (tmp_path / "line.toml").read_text()
    (tmp_path / "line.toml").write_text(
        f'{text}[curve]\nsecret = "keys/station.key_secret"\n'
        f'[control]\nendpoint = "tcp://127.0.0.1:{port}"\n'
    )
    options = {
        "curve": {"secret": str(tmp_path / "keys" / "station.key_secret")},
        "control": {"endpoint": f"tcp://127.0.0.1:{port}"},
    }
    keys = station_keys(tmp_path / "keys" / "station.key_secret", f"tcp://127.0.0.1:{port}")
    with Line(tmp_path / "s", options=options, keys=keys):
        done = edge_ad("product", "-c", tmp_path / "line.toml")
        assert done.returncode == 0 and "product  default" in done.stdout
