"""A fieldbus of one's own, as an example: lines of text over TCP, for a controller that has no Modbus.

The controller connects and sends a line whenever something changes, and at least once per heartbeat; it
is sent a line whenever what it should see changes:

    <- part=K1 product= map_version=1 heartbeat=7 count=9 enable=1 trigger=1 ack=0 reset=0
    -> part= product=plate map_version=1 heartbeat=3 trigger_echo=9 results=4 verdict=0 ... busy=1 ...

In plc.toml, with this file's directory on PYTHONPATH:

    [fieldbus]
    kind = "text_fieldbus:TextFieldbus"

    [fieldbus.options]
    port = 2002
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any

from edge_ad.delivery.plc.signals import Inputs, Outputs
from edge_ad.errors import ConfigError, DeliveryError

LONGEST = 4096  # bytes of a line


class TextFieldbus:
    """See `edge_ad.delivery.plc.fieldbus.Fieldbus` for what each method promises."""

    def __init__(self, options: Mapping[str, Any], where: str) -> None:
        unknown = set(options) - {"host", "port"}
        if unknown or not isinstance(options.get("port"), int):
            raise ConfigError(
                f"{where}: fieldbus.options: needs port, may have host, has {dict(options)}"
            )
        self._address = str(options.get("host", "127.0.0.1")), int(options["port"])
        self._listener = socket.socket()
        self._peer: socket.socket | None = None
        self._received = b""
        self._sent = ""
        self._said: Inputs | None = None
        self.port = 0

    def open(self) -> str:
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(self._address)
            self._listener.listen(1)
        except OSError as error:
            raise DeliveryError(
                f"fieldbus.options: {self._address}: {error}; set another port"
            ) from error
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        return f"text at {self._address[0]}:{self.port}"

    def exchange(self, outputs: Outputs) -> Inputs | None:
        with suppress(BlockingIOError):
            peer, _ = self._listener.accept()  # the newest controller counts
            self._hang_up()
            peer.setblocking(False)
            self._peer = peer
        if self._peer is not None:
            try:
                self._receive(self._peer)
                # One line is one moment: part, verdict and result_valid always go together.
                line = " ".join(f"{f.name}={_text(getattr(outputs, f.name))}" for f in fields(outputs))
                if line != self._sent:
                    self._peer.sendall(line.encode("ascii", "replace") + b"\n")
                    self._sent = line
            except (OSError, ValueError):  # gone, does not read, or talks nonsense
                self._hang_up()
        return self._said

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self._hang_up()
        self._listener.close()

    def _receive(self, peer: socket.socket) -> None:
        with suppress(BlockingIOError):
            while data := peer.recv(LONGEST):
                self._received += data
                *lines, self._received = self._received.split(b"\n")
                if len(self._received) > LONGEST:
                    raise ValueError("a line without end")
                if lines:
                    self._said = parse(lines[-1].decode("ascii"))
                    return  # the newest counts: every signal is held until it is answered
            raise ConnectionResetError

    def _hang_up(self) -> None:
        if self._peer is not None:
            self._peer.close()
        self._peer, self._received, self._sent, self._said = None, b"", "", None


def parse(line: str) -> Inputs:
    """Raises ValueError for what is no such line."""
    said = dict(word.split("=", 1) for word in line.split())
    numbers = {name: int(said.pop(name)) for name in ("map_version", "heartbeat", "count")}
    bits = {name: said.pop(name) == "1" for name in ("enable", "trigger", "ack", "reset")}
    part, product = said.pop("part"), said.pop("product")
    if said:
        raise ValueError(f"unknown {sorted(said)}")
    return Inputs(part, product, **numbers, **bits)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(int(value))
