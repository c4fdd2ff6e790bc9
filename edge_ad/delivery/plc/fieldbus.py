"""The interface of a fieldbus, and how the configuration chooses one.

Adding a fieldbus is one class with the four methods of `Fieldbus`, made with the table
`[fieldbus.options]` and words that say where that table is. `kind` is then its "module:Class";
deploy/plc/README.md has a worked example.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

from edge_ad.delivery.endpoint import is_loopback
from edge_ad.delivery.plc.signals import Inputs, Outputs
from edge_ad.errors import ConfigError

log = logging.getLogger(__name__)

KINDS = {
    "modbus-server": "edge_ad.delivery.plc.modbus_server:ModbusServer",
    "modbus-client": "edge_ad.delivery.plc.modbus_client:ModbusClient",
}


class Fieldbus(Protocol):
    """The wire to one PLC. All methods are called by one thread."""

    def open(self) -> str:
        """Begin; returns the address in words. A PLC that is not there yet is no error: it is looked
        for until it is. Raises DeliveryError for what only a person can mend."""
        ...

    def exchange(self, outputs: Outputs) -> Inputs | None:
        """Give what the PLC is to see, and get what it said last; None while it is not connected.

        Never blocks and never raises for what the PLC does. `part`, `verdict` and `reason` must be with
        the PLC before `result_valid` is, and an `Inputs` is of one moment: its `part` is at least as new
        as its `trigger`.
        """
        ...

    def fileno(self) -> int:
        """A descriptor that is readable when the PLC said something new; -1: look again every
        poll_ms. `exchange` reads it empty."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


def warn_of_network(host: str, port: int) -> None:
    """Say that nothing protects an address that is not of this machine alone."""
    if not is_loopback(f"tcp://{host}:{port}"):
        log.warning(
            "fieldbus.options: Modbus-TCP at %s:%d has no protection: whoever reaches it can take the "
            "part of the PLC or of this bridge; keep it in a network of its own, or behind a firewall",
            host, port,
        )  # fmt: skip


def make_fieldbus(kind: str, options: Mapping[str, Any], where: str) -> Fieldbus:
    """The fieldbus of a kind: one of KINDS, or "module:Class". Raises ConfigError."""
    name = KINDS.get(kind, kind)
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ConfigError(
            f"{where}: fieldbus.kind: {kind!r} is none of {sorted(KINDS)} and no 'module:Class' of a "
            "plug-in"
        )
    try:
        maker = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if kind in KINDS:
            raise ConfigError(
                f"{where}: fieldbus.kind: {kind!r} needs {error.name}; pip install 'edge_ad[modbus]'"
            ) from error
        raise ConfigError(
            f"{where}: fieldbus.kind: cannot import {error.name} of {kind!r}; put it on PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise ConfigError(f"{where}: fieldbus.kind: {module} has no {attribute!r}") from error
    fieldbus: Fieldbus = maker(options, where)
    return fieldbus
