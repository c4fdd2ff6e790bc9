"""Who may talk to a station, as its file says, and how its own commands do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_ad.config import Station
from edge_ad.delivery.control import ControlClient
from edge_ad.delivery.curve import read_directory, read_pair, station_keys
from edge_ad.delivery.endpoint import Access, check_address, find_group
from edge_ad.delivery.guard import Guard


def open_access(station: Station, tell: Callable[[str, str], None]) -> Access:
    """The group and the guard of a station's sockets. `tell` logs a line, from other threads. Raises
    ConfigError for keys that are missing, damaged or readable by others."""
    guard = None
    if station.curve_secret is not None:
        guard = Guard(read_pair(station.curve_secret), station.curve_clients, tell)
    return Access(station.group, guard)


def describe_access(station: Station) -> str:
    """Who may talk to it, in words. Raises ConfigError for what the daemon would refuse."""
    find_group(station.group)
    text = f"ipc: group {station.group or 'of the process'}"
    if station.curve_secret is None:
        for key, endpoint in _endpoints(station).items():
            check_address(endpoint, key)
        return f"{text}; TCP: this machine, without keys"
    read_pair(station.curve_secret)
    clients = [] if station.curve_clients is None else sorted(read_directory(station.curve_clients))
    return f"{text}; TCP: the station's own key and {len(clients)} clients' {clients}"


def open_control(station: Station, timeout_s: float = 5.0) -> ControlClient:
    """What a command of the station asks its daemon by. Raises ConfigError for the station's key, and
    DeliveryError."""
    return open_control_at(station.control_endpoint, station.curve_secret, timeout_s)


def open_control_at(endpoint: str, secret: Path | None, timeout_s: float = 5.0) -> ControlClient:
    """The same, by the control socket's endpoint and the file of the station's secret key."""
    return ControlClient(endpoint, timeout_s, keys=station_keys(secret, endpoint))


def _endpoints(station: Station) -> dict[str, str]:
    return {
        "scores.endpoint": station.scores.endpoint,
        "control.endpoint": station.control_endpoint,
        "verdicts.endpoint": station.verdicts_endpoint,
        "trigger.endpoint": station.trigger_endpoint,
    }
