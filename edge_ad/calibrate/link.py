"""The daemon of the station, seen from a command: is it up, and will it take the new bundle."""

from __future__ import annotations

from pathlib import Path

from edge_ad.audit import user
from edge_ad.delivery.access import open_control_at
from edge_ad.delivery.lock import running_pid
from edge_ad.errors import DeliveryError

# Compiling a large network on a busy machine.
RELOAD_TIMEOUT_S = 120.0


def reload_daemon(state: Path, endpoint: str, secret: Path | None = None) -> str:
    """Have a running daemon take the active bundle; returns one line that says what became of it.
    `secret`: the station's secret key, where it has one.

    Raises DeliveryError when a daemon is up and does not take it: it goes on with the one it had.
    """
    pid = running_pid(state)
    if pid is None:
        return "no daemon is running here; 'edge-ad run' starts with this bundle"
    try:
        with open_control_at(endpoint, secret, RELOAD_TIMEOUT_S) as client:
            answer = client.request("reload", who=user())
    except DeliveryError as error:
        raise DeliveryError(
            f"the bundle is active on disk, but the daemon with pid {pid} still runs the old one: "
            f"{error}"
        ) from error
    return f"the daemon with pid {pid} has taken it ({answer.get('state', 'state unknown')})"
