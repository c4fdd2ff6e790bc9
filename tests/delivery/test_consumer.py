"""A verdict consumer against daemons that are not as they should be."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
import pytest
import zmq
from channel_line import Client, until

from edge_ad.delivery import channel
from edge_ad.delivery.channel import Beat, Bye, Denied, Gone, Hello, Told, Welcome
from edge_ad.delivery.consumer import LinkDown, LinkUp
from edge_ad.delivery.wire import Header, ScoreBody


class Daemon:
    """Says whatever the test likes."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        socket.setsockopt(zmq.LINGER, 0)
        self._socket = socket
        self.endpoint = f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"
        self._identity = b""

    def hello(self, client: Client) -> Hello:
        """The next one that the client says."""
        while True:
            until(lambda: client.step() or bool(self._socket.poll(1)))
            self._identity, data = self._socket.recv_multipart()
            message = channel.decode_from_consumer(data)
            if isinstance(message, Hello):
                return message

    def say(self, *messages: channel.FromDaemon) -> None:
        for message in messages:
            self.raw(channel.encode(message, "msgpack"))

    def raw(self, *frames: bytes) -> None:
        self._socket.send_multipart([self._identity, *frames])

    def welcome(self, client: Client, epoch: str = "e1") -> None:
        self.say(Welcome(channel.VERSION, "line1", "valve", epoch, self.hello(client).nonce))


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        yield Daemon(socket)


def told(seq: int, epoch: str = "e1") -> Told:
    header = Header("1.1", "line1", epoch, seq, f"P{seq}", 0, 0, "valve", "")
    return Told(True, header, ScoreBody("PASS", "", 1.0, 2.0))


def test_daemon_that_starts_anew_while_a_gap_is_asked_for_is_another_link(daemon: Daemon) -> None:
    with Client(daemon.endpoint) as client:
        daemon.welcome(client)
        daemon.say(told(1), told(3))
        daemon.welcome(client, "e2")
        daemon.say(told(2), told(3), told(1, "e2"))
        client.get(4)
        kinds = [type(event).__name__ for event in client.events]
        assert kinds == ["LinkUp", "Delivered", "LinkDown", "LinkUp", *["Delivered"] * 3]
        assert [up.epoch for up in client.of(LinkUp)] == ["e1", "e2"]  # type: ignore[attr-defined]
        assert client.of(LinkDown) == [LinkDown("the daemon has started anew")]


@pytest.mark.parametrize(
    "field", [b'"heartbeat_ms":1e305', b'"heartbeat_ms":0', b'"heartbeat_ms":-5', b'"lost_ms":0']
)
def test_welcome_that_makes_no_sense_is_passed_over(daemon: Daemon, field: bytes) -> None:
    with Client(daemon.endpoint) as client:
        daemon.raw(
            b'{"type":"welcome","v":"1.0","station":"s","product":"p","epoch":"e","nonce":%d,%b}'
            % (daemon.hello(client).nonce, field)
        )
        until(lambda: client.step() or client.consumer.skipped > 0)
        assert client.events == []
        daemon.welcome(client)
        client.wait(LinkUp)


def test_whatever_a_daemon_says_nothing_is_raised_and_a_good_link_follows(daemon: Daemon) -> None:
    rng = random.Random(3)
    numbers = (0, 1, -1, 5, 2**31, 2**62, 2**63, 2**64 - 1)
    with Client(daemon.endpoint, lost_ms=20.0, heartbeat_ms=10.0) as client:
        for _ in range(100):
            seq = rng.choice(numbers)
            messages = (
                told(seq), told(3, "e9"), Gone("e1", rng.choice(numbers), seq), Gone("", 0, 0),
                Beat(seq, rng.choice(numbers), seq), Denied("version", "no"), Bye("x"),
                Welcome("9.0", "s", "p", "e", seq),
                Welcome("1.0", "s", "p", "e", 1, "xml", 1.0, 1.0, seq),
            )  # fmt: skip
            daemon.welcome(client) if rng.random() < 0.3 else daemon.hello(client)
            for _ in range(20):
                message = rng.choice(messages)
                encode = rng.choice((msgspec.json.encode, msgspec.msgpack.encode))
                data = bytearray(encode(message))
                if rng.random() < 0.5:
                    data[rng.randrange(len(data))] = rng.randrange(256)
                daemon.raw(*(bytes(data),) * rng.choice((1, 1, 1, 1, 2)))
            daemon.say(Bye("again"), Bye("again"))
        daemon.say(Bye("the last"))
        while not client.had or client.had[-1][:2] != ("last", 1):  # once more where it took too long
            daemon.welcome(client, "last")
            daemon.say(told(1, "last"))
            for _ in range(20):
                client.step()
        assert client.consumer.skipped > 300
