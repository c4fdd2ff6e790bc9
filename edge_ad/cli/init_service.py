"""What a file of `edge-ad init` says otherwise when systemd's units run its program."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

import msgspec

from edge_ad.config.delivery import Name
from edge_ad.errors import ConfigError

CONFIGURATION, STATE, RUNTIME = Path("/etc/edge-ad"), Path("/var/lib/edge-ad"), Path("/run/edge-ad")


def check_service(name: str) -> None:
    """Raises ConfigError for a name that no station can have."""
    try:
        msgspec.convert(name, Name)
    except msgspec.ValidationError as error:
        raise ConfigError(f"--service {name}: {error}") from error


def service_text(template: str, file: str, name: str) -> str:
    """The file ("line.toml", "gate.toml" or "plc.toml") of station `name`: state and sockets where the
    units have them. Raises ConfigError for a name that no station can have."""
    check_service(name)
    state, run = STATE / name, f"ipc://{RUNTIME / name}"
    if file == "gate.toml":
        values = {
            "station": name,
            "state_dir": str(state / "gate"),
            "source.endpoint": f"{run}/verdicts.sock",
            "present.uri": f"{run}/present.sock",
            "output.uri": f"{run}/gate.sock",
            "control.endpoint": f"{run}/gate-control.sock",
        }
    elif file == "plc.toml":
        values = {
            "state_dir": str(state / "plc"),
            "daemon.verdicts": f"{run}/verdicts.sock",
            "daemon.trigger": f"ipc://{state}/trigger.sock",  # trigger.endpoint is for one kind only
            "daemon.control": f"{run}/control.sock",
            "control.endpoint": f"{run}/plc-control.sock",
        }
    else:
        values = {
            "station": name,
            "state_dir": str(state),
            "verdicts.endpoint": f"{run}/verdicts.sock",
            "control.endpoint": f"{run}/control.sock",
        }
    for key, value in values.items():
        template = _set(template, key, value)
    return template


def _set(template: str, key: str, value: str) -> str:
    """Give a key of the template, "state_dir" or "control.endpoint", a value."""
    table, _, last = key.rpartition(".")
    start = template.index(f"[{table}]") if table else 0
    line = re.compile(rf"^#?{last} = .*$", re.MULTILINE)
    text, found = line.subn(f'{last} = "{value}"', template[start:], count=1)
    if not found:
        raise LookupError(f"the template has no {key}")
    return template[:start] + text


def make_directories(name: str) -> None:
    """For root: what the service reads and writes, before it was ever started. Raises OSError."""
    directory = CONFIGURATION / name
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)  # whatever root's umask is; /etc/edge-ad above it is closed
    state = STATE / name
    with suppress(LookupError):  # no such user: the units are not installed yet, and make it themselves
        if not state.exists():
            state.mkdir(mode=0o750, parents=True)
            shutil.chown(state, "edge-ad", "edge-ad")
