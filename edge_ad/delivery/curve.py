"""Keys of CURVE, ZeroMQ's encryption: certificate files, and what a socket is given of them.

A pair lies in two files of ZeroMQ's certificate format, NAME.key (public, to be handed on) and
NAME.key_secret (both halves, for its owner's eyes only). Keys are 40 characters of Z85.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import zmq

from edge_ad.errors import ConfigError, DeliveryError

CREDENTIALS = Path("/run/credentials")
PUBLIC, SECRET = ".key", ".key_secret"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LINE = re.compile(rb"""^\s*(public|secret)-key\s*=\s*(?:"([^"]*)"|'([^']*)')\s*$""", re.M)
_Z85 = re.compile(rb"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_LARGEST = 100_000  # bytes; a certificate has a few hundred


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Whoever holds `secret` is who others know by `public`."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"KeyPair({self.public!r})"  # a secret has no place in a log


@dataclass(frozen=True, slots=True)
class Keys:
    """What a client needs: its own pair, and the public key of the station it means to talk to."""

    public: bytes
    secret: bytes
    server: bytes

    def __repr__(self) -> str:
        return f"Keys({self.public!r}, server={self.server!r})"


def read_pair(path: Path) -> KeyPair:
    """From a NAME.key_secret file. Raises ConfigError, also where others than its owner may read it."""
    data, mode = _read(path)
    if mode & 0o077 and not _is_credential(path):
        raise ConfigError(
            f"{path}: a secret key that others may read (mode {mode:04o}); 'chmod 600 {path}', and make "
            "a new one if somebody may have read it"
        )
    found = _parse(path, data)
    if "secret" not in found:
        raise ConfigError(f"{path}: has no secret-key; give the file that ends in {SECRET}")
    pair = KeyPair(found["public"], found["secret"])
    if zmq.curve_public(pair.secret) != pair.public:
        raise ConfigError(f"{path}: its public-key is not of its secret-key; make a new pair")
    return pair


def _is_credential(path: Path) -> bool:
    """Whether systemd gave it to a service (LoadCredential=). Nobody else may read it; where that is
    held by an access list, the list's mask looks like a right of the group."""
    return path.parent.parent == CREDENTIALS


def read_public(path: Path) -> bytes:
    """The public key of a NAME.key file, or of a NAME.key_secret file. Raises ConfigError."""
    return _parse(path, _read(path)[0])["public"]


def read_directory(directory: Path) -> dict[str, bytes]:
    """Names and public keys of the *.key files in a directory. Raises ConfigError."""
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == PUBLIC)
    except OSError as error:
        raise ConfigError(
            f"{directory}: no directory of public keys ({error.strerror}); make it, and put the "
            f"NAME{PUBLIC} of each client there"
        ) from error
    return {path.stem: read_public(path) for path in paths}


def client_keys(secret: Path | None, server: Path | None) -> Keys | None:
    """From the client's own secret file and the station's public one; None without these. Raises
    ConfigError."""
    if secret is None or server is None:
        return None
    own = read_pair(secret)
    return Keys(own.public, own.secret, read_public(server))


def station_keys(secret: Path | None, endpoint: str) -> Keys | None:
    """What a command of the station itself talks to its daemon with: the station's own pair, which is
    let in always. None where `endpoint` needs no keys or the station has none. Raises ConfigError."""
    if secret is None or not endpoint.startswith("tcp://"):
        return None
    own = read_pair(secret)
    return Keys(own.public, own.secret, own.public)


def write_pair(directory: Path, name: str) -> tuple[Path, Path]:
    """Make a pair and write NAME.key and NAME.key_secret (mode 0600); returns their paths.

    Raises ConfigError for a name that cannot be a file's, and where one of the files exists;
    DeliveryError where they cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r}: no name for a key; use letters, digits, '-', '_' and '.'")
    paths = directory / f"{name}{PUBLIC}", directory / f"{name}{SECRET}"
    for path in paths:
        if path.exists():
            raise ConfigError(f"{path}: exists already; give another name, or remove it first")
    public, secret = zmq.curve_keypair()
    halves = f'    public-key = "{public.decode()}"\n', f'    secret-key = "{secret.decode()}"\n'
    texts = (
        f"# Public key of {name}: to be handed on.\nmetadata\ncurve\n{halves[0]}",
        f"# SECRET key of {name}: never hand it on.\nmetadata\ncurve\n{halves[0]}{halves[1]}",
    )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text, mode in zip(paths, texts, (0o644, 0o600), strict=True):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(text)
    except OSError as error:
        raise DeliveryError(
            f"{error.filename or directory}: cannot be written ({error.strerror}); give a writable -o"
        ) from error
    return paths


def apply_client(socket: zmq.Socket[bytes], keys: Keys | None, endpoint: str) -> None:
    """Have a socket, before it connects to `endpoint`, prove who it is and encrypt.

    Nothing is done without keys and for ipc, which the mode and the group of its file protect.
    """
    if keys is None or not endpoint.startswith("tcp://"):
        return
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server)


def apply_server(socket: zmq.Socket[bytes], pair: KeyPair, domain: str) -> None:
    """Have a socket, before it binds, let in only whom the ZAP handler of its context lets in, which is
    asked with `domain`. Without a handler nobody is let in."""
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, pair.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, pair.secret)
    socket.setsockopt_string(zmq.ZAP_DOMAIN, domain)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def _read(path: Path) -> tuple[bytes, int]:
    """Content and permissions, of the same file."""
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST), stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); 'edge-ad keys new' makes keys"
        ) from error


def _parse(path: Path, data: bytes) -> dict[str, bytes]:
    found = {kind.decode(): one or two for kind, one, two in _LINE.findall(data)}
    if "public" not in found:
        raise ConfigError(f"{path}: no ZeroMQ certificate (no public-key); 'edge-ad keys new' makes one")
    for kind, key in found.items():
        if not _Z85.fullmatch(key):
            raise ConfigError(
                f"{path}: its {kind}-key is not 40 characters of Z85 but {len(key)}; make a new pair"
            )
    return found
