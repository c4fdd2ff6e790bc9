"""Keys: their files, who is let in with them, and what an address of the network asks for."""

from __future__ import annotations

import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from daemon_line import wait_for
from zmq.auth import load_certificate

from edge_ad.delivery import curve
from edge_ad.delivery.control import ControlClient, ControlServer
from edge_ad.delivery.curve import (
    Keys,
    apply_client,
    client_keys,
    read_directory,
    read_pair,
    read_public,
    station_keys,
    write_pair,
)
from edge_ad.delivery.endpoint import Access, bind, is_loopback
from edge_ad.delivery.guard import Guard
from edge_ad.delivery.scores import ScorePublisher, ScoreSubscriber
from edge_ad.errors import ConfigError, DeliveryError


class Place:
    """A directory with pairs of a station and of clients, of which `clients` has some on file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clients = root / "clients"
        self.clients.mkdir()
        for name in ("station", "bridge", "stranger"):
            write_pair(root, name)
        self.let_in("bridge")
        self.said: list[str] = []
        self.guard = Guard(
            read_pair(root / "station.key_secret"),
            self.clients,
            lambda level, text: self.said.append(text),
        )

    def let_in(self, name: str) -> None:
        shutil.copy(self.root / f"{name}.key", self.clients)

    def keys(self, name: str, server: str = "station") -> Keys:
        return client_keys(self.root / f"{name}.key_secret", self.root / f"{server}.key")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def control(place: Place) -> Iterator[ControlServer]:
    server = ControlServer(
        "tcp://127.0.0.1:0", lambda command, args: {"did": command}, Access("", place.guard)
    )
    server.start()
    yield server
    server.close()


def ask(endpoint: str, keys: Keys | None, timeout_s: float = 10.0) -> dict[str, Any]:
    with ControlClient(endpoint, timeout_s, keys=keys) as client:
        return client.request("status")


def test_a_pair_is_in_the_format_of_zeromq_and_its_secret_is_the_owners(tmp_path: Path) -> None:
    public, secret = write_pair(tmp_path / "keys", "line1")
    assert (public.name, secret.name) == ("line1.key", "line1.key_secret")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    pair = read_pair(secret)
    assert load_certificate(secret) == (pair.public, pair.secret)
    assert load_certificate(public) == (pair.public, None)
    assert read_public(public) == read_public(secret) == pair.public
    assert read_directory(tmp_path / "keys") == {"line1": pair.public}
    assert pair.secret.decode() not in f"{pair} {station_keys(secret, 'tcp://h:1')}"


def test_a_pair_that_another_program_made_is_read(tmp_path: Path) -> None:
    zmq.auth.create_certificates(tmp_path, "theirs", {"line": "1"})
    (tmp_path / "theirs.key_secret").chmod(0o600)
    assert read_pair(tmp_path / "theirs.key_secret").public == read_public(tmp_path / "theirs.key")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_pair(tmp_path, "a")
    before = (tmp_path / "a.key_secret").read_bytes()
    with pytest.raises(ConfigError, match=r"a\.key: exists already.*another name"):
        write_pair(tmp_path, "a")
    (tmp_path / "a.key").unlink()
    with pytest.raises(ConfigError, match=r"a\.key_secret: exists already"):
        write_pair(tmp_path, "a")
    assert (tmp_path / "a.key_secret").read_bytes() == before
    with pytest.raises(ConfigError, match=r"'\.\./a': no name for a key"):
        write_pair(tmp_path, "../a")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_secret_that_others_may_read_is_refused_with_its_mode(tmp_path: Path, mode: int) -> None:
    _, secret = write_pair(tmp_path, "a")
    secret.chmod(mode)
    with pytest.raises(ConfigError, match=rf"a\.key_secret.*mode {mode:04o}.*chmod 600"):
        read_pair(secret)


def test_a_credential_of_the_service_is_its_own_whatever_the_mode_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(tmp_path / "edge-ad@line1.service", "station")
    secret = tmp_path / "edge-ad@line1.service" / "station.key_secret"
    secret.chmod(0o440)  # as where an access list lets the service's user read it
    with monkeypatch.context() as given:
        given.setattr(curve, "CREDENTIALS", tmp_path)
        assert read_pair(secret).public == read_public(secret.with_suffix(".key"))
    with pytest.raises(ConfigError, match="mode 0440"):
        read_pair(secret)


def test_files_that_are_no_keys_are_named(tmp_path: Path) -> None:
    public, secret = write_pair(tmp_path, "a")
    other, _ = write_pair(tmp_path, "b")
    public.chmod(0o600)
    with pytest.raises(ConfigError, match=r"a\.key: has no secret-key; give .*key_secret"):
        read_pair(public)
    (tmp_path / "c.key").write_bytes(b"\xff\x00 nothing")
    with pytest.raises(ConfigError, match=r"c\.key: no ZeroMQ certificate"):
        read_directory(tmp_path)
    (tmp_path / "c.key").write_text('public-key = "short"\n')
    with pytest.raises(ConfigError, match=r"c\.key: its public-key is not 40 characters of Z85 but 5"):
        read_public(tmp_path / "c.key")
    with pytest.raises(ConfigError, match=r"none\.key: cannot be read.*edge-ad keys new"):
        read_public(tmp_path / "none.key")
    with pytest.raises(ConfigError, match=r"none: no directory of public keys"):
        read_directory(tmp_path / "none")
    secret.write_text(
        secret.read_text().replace(read_public(secret).decode(), read_public(other).decode())
    )
    with pytest.raises(ConfigError, match="is not of its secret-key"):
        read_pair(secret)


def test_clients_on_file_and_the_station_itself_are_let_in(place: Place, control: ControlServer) -> None:
    assert ask(control.endpoint, place.keys("bridge")) == {"did": "status"}
    own = station_keys(place.root / "station.key_secret", control.endpoint)
    assert ask(control.endpoint, own) == {"did": "status"}
    assert place.guard.denied == {"control": 0}


def test_a_strange_key_is_denied_counted_and_said_once(place: Place, control: ControlServer) -> None:
    for _ in range(2):
        with pytest.raises(DeliveryError, match="no answer"):
            ask(control.endpoint, place.keys("stranger"), 0.5)
    wait_for(lambda: place.guard.denied["control"] >= 2)
    key = read_public(place.root / "stranger.key").decode()
    assert len(place.said) == 1
    assert (
        place.said[0].startswith("control: a client at 127.0.0.1 was refused") and key in place.said[0]
    )
    assert ask(control.endpoint, place.keys("bridge")) == {"did": "status"}


@pytest.mark.parametrize("keys", ["another station's", "none"])
def test_who_does_not_encrypt_for_this_station_is_counted(
    place: Place, control: ControlServer, keys: str
) -> None:
    with pytest.raises(DeliveryError, match="no answer"):
        ask(control.endpoint, place.keys("bridge", "stranger") if keys != "none" else None, 0.5)
    wait_for(lambda: place.guard.denied["control"] > 0)
    assert ask(control.endpoint, place.keys("bridge")) == {"did": "status"}


def test_garbage_on_the_port_keeps_nobody_out(place: Place, control: ControlServer) -> None:
    port = int(control.endpoint.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)) * 8)
        assert ask(control.endpoint, place.keys("bridge")) == {"did": "status"}


def test_clients_come_and_go_without_a_restart(place: Place, control: ControlServer) -> None:
    with pytest.raises(DeliveryError):
        ask(control.endpoint, place.keys("stranger"), 0.5)
    place.let_in("stranger")
    assert ask(control.endpoint, place.keys("stranger")) == {"did": "status"}
    (place.clients / "stranger.key").unlink()
    with pytest.raises(DeliveryError):
        ask(control.endpoint, place.keys("stranger"), 0.5)


def test_a_key_that_is_replaced_in_its_file_is_let_in_no_more(
    place: Place, control: ControlServer
) -> None:
    assert ask(control.endpoint, place.keys("bridge")) == {"did": "status"}
    (place.clients / "bridge.key").write_bytes((place.root / "stranger.key").read_bytes())
    with pytest.raises(DeliveryError):
        ask(control.endpoint, place.keys("bridge"), 0.5)
    assert ask(control.endpoint, place.keys("stranger")) == {"did": "status"}


def test_keys_that_get_damaged_shut_clients_out_and_are_named(
    place: Place, control: ControlServer
) -> None:
    (place.clients / "new.key").write_text("oops")
    with pytest.raises(DeliveryError):
        ask(control.endpoint, place.keys("bridge"), 0.5)
    assert any("new.key: no ZeroMQ certificate" in text for text in place.said)
    (place.clients / "new.key").unlink()
    assert ask(control.endpoint, place.keys("bridge")) == {"did": "status"}


def test_scores_go_to_clients_on_file_only(place: Place) -> None:
    publisher = ScorePublisher("tcp://127.0.0.1:0", access=Access("", place.guard))
    known = ScoreSubscriber(publisher.endpoint, keys=place.keys("bridge"))
    strange = ScoreSubscriber(publisher.endpoint, keys=place.keys("stranger"))
    wait_for(lambda: place.guard.denied["scores"] > 0)

    def arrives(subscriber: ScoreSubscriber) -> bool:
        publisher.send(b"not a header", b"{}", rejected=False)
        subscriber.receive(0.01)
        return subscriber.skipped > 0

    wait_for(lambda: arrives(known))
    assert not any(arrives(strange) for _ in range(20))
    known.close()
    strange.close()
    publisher.close()


def test_an_address_of_the_network_needs_keys(place: Place) -> None:
    with pytest.raises(
        ConfigError, match=r"scores\.endpoint: tcp://\*:0 is open.*curve\.secret.*edge-ad keys new"
    ):
        ScorePublisher("tcp://*:0")
    with pytest.raises(ConfigError, match=r"control\.endpoint: tcp://0\.0\.0\.0:0 is open"):
        ControlServer("tcp://0.0.0.0:0", lambda command, args: {})
    publisher = ScorePublisher("tcp://*:0", access=Access("", place.guard))
    assert publisher.endpoint.startswith("tcp://0.0.0.0:")
    publisher.close()


def test_what_is_loopback() -> None:
    here = ("tcp://127.0.0.1:1", "tcp://127.9.9.9:1", "tcp://[::1]:1", "tcp://localhost:1")
    elsewhere = (
        "tcp://*:1",
        "tcp://0.0.0.0:1",
        "tcp://[::]:1",
        "tcp://eth0:1",
        "tcp://line1:1",
        "tcp://10.0.0.1:1",
    )
    assert all(is_loopback(endpoint) for endpoint in here)
    assert not any(is_loopback(endpoint) for endpoint in elsewhere)


def test_a_context_without_its_handler_lets_nobody_in(place: Place) -> None:
    from edge_ad.delivery.curve import apply_server

    with (
        zmq.Context() as context,
        context.socket(zmq.ROUTER) as server,
        context.socket(zmq.DEALER) as client,
    ):
        server.linger = client.linger = 0
        apply_server(server, place.guard.pair, "control/0")
        endpoint = bind(server, "tcp://127.0.0.1:0", "control.endpoint")
        apply_client(client, place.keys("bridge"), endpoint)
        client.connect(endpoint)
        client.send(b"hello")
        assert not server.poll(500)


def test_keys_are_not_asked_for_on_ipc(place: Place) -> None:
    server = ControlServer(
        f"ipc://{place.root}/c.sock", lambda command, args: {}, Access("", place.guard)
    )
    server.start()
    assert ask(server.endpoint, place.keys("stranger")) == {}
    assert ask(server.endpoint, station_keys(place.root / "nowhere", server.endpoint)) == {}
    server.close()
