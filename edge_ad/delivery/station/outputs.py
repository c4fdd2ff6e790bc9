"""What opens the gate. One plug-in per scheme of a URI, as with inputs.

Every output rejects by doing nothing: a PASS ends by itself, and without heartbeat the gate rejects.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Literal, Protocol

from edge_ad.delivery.endpoint import check_peer
from edge_ad.delivery.station.events import Pass, Promise, Reject, Revoke
from edge_ad.delivery.station.inputs import plug
from edge_ad.delivery.station.messages import GateMessage, encode, push_socket, try_send
from edge_ad.errors import ConfigError, DeliveryError

_AT_THE_GATE = (
    "run 'edge-ad station' on the machine at the gate, and give tcp://127.0.0.1:PORT or ipc://PATH here"
)
_Kind = Literal["pass", "reject", "revoke", "shut", "beat", "line_stop"]


class Output(Protocol):
    """The gate. One thread uses it; no method blocks. Raises DeviceError when the device is gone."""

    promises: bool
    """Whether it wants to know ahead of time what may pass when; else `promise` is not called."""

    def promise(self, action: Promise, now_ns: int) -> None:
        """A part may pass from `from_ns` to `until_ns`."""
        ...

    def revoke(self, action: Revoke, now_ns: int) -> None:
        """It may not after all."""
        ...

    def allow(self, action: Pass, now_ns: int) -> None:
        """Signal PASS from now until `action.until_ns`, and then end it without being asked."""
        ...

    def deny(self, action: Reject, now_ns: int) -> None:
        """A part is at the gate that must not pass; no signal is the signal."""
        ...

    def shut(self, now_ns: int, key: str = "") -> None:
        """End the PASS signal of a part now; without a key whatever may be open."""
        ...

    def line_stop(self, on: bool, now_ns: int) -> None:
        """Hold the line-stop output, or let it go."""
        ...

    def beat(self, now_ns: int, link: bool, state: str) -> None:
        """A sign of life; whether every daemon that is needed is heard, and the station's state."""
        ...

    def tick(self, now_ns: int) -> None:
        """Do what is due, as ending a PASS signal."""
        ...

    def due(self) -> int | None:
        """When `tick` has something to do; None: nothing."""
        ...

    def close(self) -> None:
        """End every signal. Idempotent."""
        ...


class MessageOutput:
    """Messages to the `GateReceiver` that is bound at an endpoint. `dropped` counts those that no gate
    took: it was away or slow, and rejects."""

    promises = True

    def __init__(self, uri: str, where: str) -> None:
        self.dropped = 0
        self._run = secrets.token_hex(4)
        self._n = 0
        self._stop = False
        self._promised: set[int] = set()
        check_peer(uri, where, None, _AT_THE_GATE)
        try:
            self._socket = push_socket(uri)
        except DeliveryError as error:
            raise ConfigError(f"{where}: {error}") from error

    def promise(self, action: Promise, now_ns: int) -> None:
        """See `Output`; also the others."""
        if self._send("pass", now_ns, action.key, action.number, (action.from_ns, action.until_ns)):
            self._promised.add(action.number)

    def revoke(self, action: Revoke, now_ns: int) -> None:
        """A promise that went out is taken back."""
        self._promised.discard(action.number)
        self._send("revoke", now_ns, action.key, action.number, why=action.why.value)

    def allow(self, action: Pass, now_ns: int) -> None:
        """Where it was not said before."""
        if action.number in self._promised:
            self._promised.discard(action.number)
        else:
            self._send("pass", now_ns, action.key, action.number, (now_ns, action.until_ns))

    def deny(self, action: Reject, now_ns: int) -> None:
        """For the record of the gate."""
        self._promised.discard(action.number)
        self._send("reject", now_ns, action.key, action.number, why=action.why.value)

    def shut(self, now_ns: int, key: str = "") -> None:
        """What was valid is not any more; promises to other parts stay."""
        self._send("revoke" if key else "shut", now_ns, key, why="shut")

    def line_stop(self, on: bool, now_ns: int) -> None:
        """Told at once, and again with every heartbeat."""
        self._stop = on
        self._send("line_stop", now_ns)

    def beat(self, now_ns: int, link: bool, state: str) -> None:
        """With whether the line is to stop."""
        self._send("beat", now_ns, link=link, state=state)

    def tick(self, now_ns: int) -> None:
        """Messages end by their `until_ns`."""

    def due(self) -> int | None:
        """Nothing."""
        return None

    def close(self) -> None:
        """Idempotent."""
        if not self._socket.closed:
            self._socket.close()

    def _send(
        self,
        kind: _Kind,
        now_ns: int,
        key: str = "",
        number: int = 0,
        window: tuple[int, int] = (0, 0),
        **more: Any,
    ) -> bool:
        self._n += 1
        message = GateMessage(
            kind=kind, n=self._n, run=self._run, sent_ns=now_ns, key=key, number=number,
            from_ns=window[0], until_ns=window[1], valid_ms=max(0, window[1] - now_ns) / 1e6,
            on=self._stop, **more,
        )  # fmt: skip
        if try_send(self._socket, encode(message)):
            return True
        self.dropped += 1
        if kind in ("revoke", "shut"):
            # The gate must not find what it was promised when it reads again: to a gate another run
            # has promised nothing. What may pass is told anew when it comes there.
            self._run, self._n = secrets.token_hex(4), 0
            self._promised.clear()
        return False


def _gpio(uri: str, where: str) -> Output:
    from edge_ad.delivery.station.gpio import GpioOutput

    return GpioOutput(uri, where)


OUTPUTS: dict[str, Callable[[str, str], Output]] = {
    "tcp": MessageOutput,
    "ipc": MessageOutput,
    "gpio": _gpio,
}


def open_output(uri: str, where: str = "output.uri") -> Output:
    """The output that a URI names. Raises ConfigError, DeviceError."""
    opened: Output = plug(OUTPUTS, uri, where)(uri, where)
    return opened
