"""Who may talk to the sockets of a station: its public keys on file, asked at each handshake (ZAP)."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from edge_ad.delivery.curve import PUBLIC, KeyPair, apply_server, read_directory
from edge_ad.errors import ConfigError

_ZAP = "inproc://zeromq.zap.01"  # RFC 27
_FAILED = zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
_MOST_SAID = 1000  # addresses that are told once each; of more nothing is said, only counted
_number = itertools.count(1)
log = logging.getLogger(__name__)


class Guard:
    """Lets in the station's own key and those of the *.key files in `clients`, which is read again when
    files come, go or change: no restart is needed. Whoever is connected already stays so.

    `denied` counts per socket: keys that are not on file, and handshakes that fail before a key is
    known (no encryption, another server's key). `tell` logs a line, from other threads.
    Raises ConfigError for files that are no keys.
    """

    def __init__(
        self, pair: KeyPair, clients: Path | None, tell: Callable[[str, str], None] | None = None
    ) -> None:
        self.pair = pair
        self.denied: dict[str, int] = {}
        self._clients = clients
        self._tell = tell or (lambda level, text: log.log(logging.getLevelName(level.upper()), text))
        self._names: dict[bytes, str] = {}
        self._stamp: list[tuple[str, int, int, int]] | None = None
        self._said: set[tuple[str, str]] = set()
        self._read()

    def protect(self, socket: zmq.Socket[bytes], name: str) -> None:
        """Set up a socket before it binds; refusals are counted under `name`."""
        self.denied.setdefault(name, 0)
        domain = f"{name}/{next(_number)}"
        _doorman(socket.context).watch(domain, self, name, socket)
        apply_server(socket, self.pair, domain)

    def knows(self, name: str, address: str, key: bytes) -> str:
        """The client's name, or "" to refuse it, counted. `key`: 40 characters of Z85."""
        if key == self.pair.public:
            return "station"
        try:
            self._read()
        except ConfigError as error:
            self._names = {}  # nobody until it is put right
            self._say(str(error), str(error), "error")
        if (known := self._names.get(key, "")) == "":
            self.deny(name, address, f"its public key {key.decode()} is not among the clients' keys")
        return known

    def deny(self, name: str, address: str, why: str) -> None:
        """Count a refusal, and say it once per address."""
        self.denied[name] += 1
        self._say(address, f"{name}: a client at {address or 'an unknown address'} was refused: {why}")

    def _say(self, what: str, text: str, level: str = "warning") -> None:
        if (what, level) not in self._said and len(self._said) < _MOST_SAID:
            self._said.add((what, level))
            self._tell(level, text)

    def _read(self) -> None:
        if self._clients is None:
            return
        stamp = _stamp(self._clients)
        if stamp is None or stamp != self._stamp:
            self._stamp = None  # where reading fails, it is tried again
            self._names = {key: name for name, key in read_directory(self._clients).items()}
            self._stamp = stamp


def _stamp(directory: Path) -> list[tuple[str, int, int, int]] | None:
    """What changes when one of its keys comes, goes or is replaced; None: it cannot be told."""
    try:
        with os.scandir(directory) as entries:
            found = [(e.name, e.stat()) for e in entries if e.name.endswith(PUBLIC)]
    except OSError:
        return None
    return sorted((name, s.st_ino, s.st_mtime_ns, s.st_size) for name, s in found)


class _Doorman:
    """The ZAP handler of one context, in a thread that ends with the context."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._context = context
        self._guards: dict[str, tuple[Guard, str]] = {}  # by domain
        self._domains: SimpleQueue[str] = SimpleQueue()  # whose monitor is to be opened
        self._asked: zmq.Socket[bytes] = context.socket(zmq.REP)
        self._asked.setsockopt(zmq.LINGER, 0)
        self._asked.bind(_ZAP)
        threading.Thread(target=self._run, name="keys", daemon=True).start()

    def watch(self, domain: str, guard: Guard, name: str, socket: zmq.Socket[bytes]) -> None:
        """Ask `guard` about clients of `domain`, and have it count failed handshakes of the socket."""
        self._guards[domain] = guard, name
        socket.monitor(_monitor(domain), _FAILED)
        self._domains.put(domain)

    def _run(self) -> None:
        open_: dict[zmq.Socket[bytes], str] = {}  # monitors, and whose they are
        poller = zmq.Poller()
        poller.register(self._asked, zmq.POLLIN)
        try:
            while True:
                self._take_monitors(open_, poller)
                for socket, _ in poller.poll(500):
                    if socket is self._asked:
                        self._answer()
                    elif not _hear(socket, *self._guards[open_[socket]]):
                        poller.unregister(socket)
                        del self._guards[open_.pop(socket)]
                        socket.close()
        except zmq.ContextTerminated:
            pass
        finally:
            with _lock:
                _doormen.pop(self._context.underlying, None)
            for socket in (self._asked, *open_):
                socket.close(linger=0)

    def _take_monitors(self, open_: dict[zmq.Socket[bytes], str], poller: zmq.Poller) -> None:
        while True:
            try:
                domain = self._domains.get_nowait()
            except Empty:
                return
            monitor: zmq.Socket[bytes] = self._context.socket(zmq.PAIR)
            monitor.setsockopt(zmq.LINGER, 0)
            monitor.connect(_monitor(domain))
            open_[monitor] = domain
            poller.register(monitor, zmq.POLLIN)

    def _answer(self) -> None:
        version, request, domain, address, _, mechanism, *credentials = self._asked.recv_multipart()
        client = ""
        try:
            guard, name = self._guards[domain.decode()]
            if mechanism == b"CURVE" and len(credentials) == 1:
                client = guard.knows(name, address.decode(), z85.encode(credentials[0]))
        except Exception:  # the top of the thread: refused, and the next one is asked about
            log.exception("keys: a handshake could not be judged")
        # 300, try again: after a 400 the client's ZeroMQ would never do so, with its key on file
        # neither, and its sends would block.
        status = (b"200", b"OK") if client else (b"300", b"unknown key")
        self._asked.send_multipart([version, request, *status, client.encode(), b""])


def _hear(monitor: zmq.Socket[bytes], guard: Guard, name: str) -> bool:
    """Take one event; False for the socket's last one."""
    event = parse_monitor_message(monitor.recv_multipart())["event"]
    if event == zmq.Event.MONITOR_STOPPED:
        return False
    guard.deny(name, "", "no handshake of CURVE with this station's public key")
    return True


def _monitor(domain: str) -> str:
    return f"inproc://handshakes/{domain}"


_doormen: dict[int, _Doorman] = {}
_lock = threading.Lock()


def _doorman(context: zmq.Context[zmq.Socket[bytes]]) -> _Doorman:
    """The context's only ZAP handler, of all guards together."""
    with _lock:
        found = _doormen.get(context.underlying)
        if found is None:
            found = _doormen[context.underlying] = _Doorman(context)
        return found
