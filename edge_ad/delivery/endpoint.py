"""Binding a ZeroMQ socket so that what can go wrong is said in one line."""

from __future__ import annotations

import errno
import os
import socket as unix
from pathlib import Path

import zmq

from edge_ad.errors import DeliveryError

_IPC_LIMIT = 107  # bytes of a UNIX socket's path on Linux


def bind(socket: zmq.Socket[bytes], endpoint: str, key: str) -> str:
    """Bind, and return the endpoint with the port that was really taken. `key` is the config's key.

    ipc sockets get mode 0660. ZeroMQ would take over an ipc path that another process listens on;
    here that is refused. Not thread safe: the process's umask is changed for a moment.
    Raises DeliveryError.
    """
    if endpoint.startswith("ipc://"):
        _check_ipc(endpoint, key)
    old = os.umask(0o117)
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
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def _check_ipc(endpoint: str, key: str) -> None:
    path = Path(endpoint.removeprefix("ipc://"))
    if len(os.fsencode(path)) > _IPC_LIMIT:
        raise DeliveryError(
            f"{key}: the path of {endpoint} is longer than {_IPC_LIMIT} bytes; set a shorter {key}"
        )
    with unix.socket(unix.AF_UNIX, unix.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return  # nobody listens: free, or left over from a killed process
    raise DeliveryError(f"{key}: {endpoint} is in use; stop the other program or set another {key}")
