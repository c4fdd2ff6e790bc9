"""Binding a ZeroMQ socket so that only those reach it who may, and what can go wrong is one line."""

from __future__ import annotations

import errno
import grp
import ipaddress
import os
import pwd
import socket as unix
from dataclasses import dataclass
from pathlib import Path

import zmq

from edge_ad.delivery.curve import Keys
from edge_ad.delivery.guard import Guard
from edge_ad.errors import ConfigError, DeliveryError

_IPC_LIMIT = 107  # bytes of a UNIX socket's path on Linux
# A peer behind a cut wire is given up after 2 + 3 s of silence: TCP alone waits for ever.
_KEEPALIVE = (
    (zmq.TCP_KEEPALIVE, 1),
    (zmq.TCP_KEEPALIVE_IDLE, 2),
    (zmq.TCP_KEEPALIVE_INTVL, 1),
    (zmq.TCP_KEEPALIVE_CNT, 3),
)
_CLIENT = (
    *_KEEPALIVE,
    (zmq.TCP_MAXRT, 5000),  # of what was sent and is not confirmed
    (zmq.CONNECT_TIMEOUT, 2000),
    (zmq.HANDSHAKE_IVL, 3000),
    (zmq.RECONNECT_IVL, 100),
    (zmq.RECONNECT_IVL_MAX, 1000),
)


@dataclass(frozen=True, slots=True)
class Access:
    """Who may talk to the sockets that are bound: the members of `group` (empty: of the process's own)
    over ipc, and over TCP whom `guard` knows; without a guard only this machine, whoever asks.
    `may_have_keys`: whether a guard is a matter of configuration, for messages."""

    group: str = ""
    guard: Guard | None = None
    may_have_keys: bool = True


ANYBODY_HERE = Access()
NEVER_REMOTE = Access(may_have_keys=False)  # of programs whose sockets have no keys


def bind(socket: zmq.Socket[bytes], endpoint: str, key: str, access: Access = ANYBODY_HERE) -> str:
    """Bind, and return the endpoint with the port that was really taken. `key` is the config's key.

    ipc sockets get mode 0770. ZeroMQ would take over an ipc path that another process listens on;
    here that is refused. Not thread safe: the process's umask is changed for a moment.
    Raises ConfigError for an address of the network without CURVE, and for an unknown group;
    DeliveryError for what cannot be opened.
    """
    group = find_group(access.group) if endpoint.startswith("ipc://") else None
    if endpoint.startswith("ipc://"):
        _check_ipc(endpoint, key)
    elif endpoint.startswith("tcp://"):
        if access.guard is not None:
            access.guard.protect(socket, key.partition(".")[0])
        else:
            check_address(endpoint, key, access.may_have_keys)
        for option, value in _KEEPALIVE:
            socket.setsockopt(option, value)
    elif not endpoint.startswith("inproc://"):
        raise DeliveryError(f"{key}: {endpoint} is no endpoint; give tcp://ADDRESS:PORT or ipc://PATH")
    old = os.umask(0o077)  # nobody else, until the file has its group
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        if error.errno == errno.EADDRINUSE:
            reason = "is in use; stop the other program"
        else:
            reason = f"cannot be opened ({error.strerror or error})"
        raise DeliveryError(f"{key}: {endpoint} {reason} or set another {key}") from error
    finally:
        os.umask(old)
    bound = socket.getsockopt_string(zmq.LAST_ENDPOINT)
    if bound.startswith("ipc://"):
        _hand_to(Path(bound.removeprefix("ipc://")), access.group, group)
    return bound


def notice_loss(socket: zmq.Socket[bytes]) -> None:
    """Have a socket, before it connects, notice within seconds that its peer or the network between is
    gone, and connect again.

    The kernel asks the other one's kernel. ZeroMQ's own heartbeats would take a peer that reads slowly
    for dead, since their answers wait behind what it has not read, and giving up such a connection may
    end the process (libzmq issues 3937 and 4767).
    """
    for option, value in _CLIENT:
        socket.setsockopt(option, value)


def check_address(endpoint: str, key: str, may_have_keys: bool = True) -> None:
    """Raises ConfigError for an endpoint that needs keys."""
    if endpoint.startswith("tcp://") and not is_loopback(endpoint):
        needs = (
            "needs keys: set curve.secret ('edge-ad keys new station -o keys/' makes it), or"
            if may_have_keys
            else "this socket never is: set"
        )
        raise ConfigError(
            f"{key}: {endpoint} is open to the network, which {needs} {key} = 'tcp://127.0.0.1:PORT'"
            f"{'' if may_have_keys else ' or ipc://PATH'}"
        )


def check_peer(endpoint: str, key: str, keys: Keys | None, remedy: str) -> None:
    """Before a socket connects. Raises ConfigError for an address of the network where nothing proves
    who answers, as anybody there could give a PASS. `remedy` is said."""
    if keys is None and endpoint.startswith("tcp://") and not is_loopback(endpoint):
        raise ConfigError(f"{key}: {endpoint} is on the network, where anybody could answer; {remedy}")


def is_loopback(endpoint: str) -> bool:
    """Whether a tcp endpoint can be reached from this machine only; names are not looked up."""
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_ipc(endpoint: str, key: str) -> None:
    name = endpoint.removeprefix("ipc://")
    if name.startswith("@"):
        raise ConfigError(
            f"{key}: {endpoint} has no file, so anybody on this machine could use it; give a path"
        )
    path = Path(name)
    if len(os.fsencode(path)) > _IPC_LIMIT:
        raise DeliveryError(
            f"{key}: the path of {endpoint} is longer than {_IPC_LIMIT} bytes; set a shorter {key}"
        )
    if not path.parent.is_dir():
        raise DeliveryError(
            f"{key}: there is no directory {path.parent}; make it (in a unit RuntimeDirectory= does) or "
            f"set another {key}"
        )
    with unix.socket(unix.AF_UNIX, unix.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return  # nobody listens: free, or left over from a killed process
    raise DeliveryError(f"{key}: {endpoint} is in use; stop the other program or set another {key}")


def find_group(name: str) -> int | None:
    """Its number; None for the process's own, "". Raises ConfigError for one that does not exist."""
    if not name:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(
            f"group: no group of this machine is named {name!r}; 'groupadd {name}' makes it"
        ) from None


def _hand_to(path: Path, name: str, group: int | None) -> None:
    try:
        if group is not None:
            os.chown(path, -1, group)
        path.chmod(0o770)
    except PermissionError as error:
        try:
            user = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:  # as in a container
            user = str(os.geteuid())
        raise ConfigError(
            f"group: {user!r}, who runs this, may not give {path} to group {name!r}; "
            f"'usermod -aG {name} {user}' makes it a member, from its next login on"
        ) from error
    except OSError as error:
        raise DeliveryError(f"{path}: cannot be made ready ({error.strerror}); set another") from error
