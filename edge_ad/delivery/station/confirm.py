"""Whether what was rejected was seen in the reject bin: an actuator that does nothing stops the line."""

from __future__ import annotations

from collections import deque

from edge_ad.delivery.station.events import Action, Alarm, LineStop


class Confirmations:
    """Rejects that wait to be seen. Not thread safe. `line_stop` stays until `reset`.

    The sensor at the bin knows no keys, so confirmations are counted off in order: this says whether the
    actuator works, never which part is which.
    """

    def __init__(self, wait_ns: int, line_stop: bool = False) -> None:
        self.line_stop = line_stop
        self._wait_ns = wait_ns
        self._due: deque[tuple[int, str]] = deque()
        self._begun = False

    def begin(self) -> None:
        """A part has come to the gate: from now on what falls into the bin was rejected knowingly."""
        self._begun = True

    def expect(self, key: str, leaves_ns: int) -> None:
        """A part was rejected, and has left the gate by `leaves_ns`."""
        if self._wait_ns and not self.line_stop:
            self._due.append((leaves_ns + self._wait_ns, key))

    def seen(self) -> list[Action]:
        """Something fell into the reject bin."""
        if self._due:
            self._due.popleft()
            return []
        if not self._wait_ns or not self._begun or self.line_stop:
            return []
        return [
            Alarm("unexpected", "a part is in the reject bin that was not rejected; look at the gate")
        ]

    def tick(self, now_ns: int) -> list[Action]:
        """The line stops for a reject that was not seen in time."""
        if not self._due or now_ns <= self._due[0][0]:
            return []
        _, key = self._due[0]
        self._due.clear()
        self.line_stop = True
        text = (
            f"part {key!r} was rejected but not seen in the reject bin; look for it and at the "
            "actuator, then 'edge-ad station reset'"
        )
        return [Alarm("unconfirmed", text), LineStop(True)]

    def next_due(self) -> int | None:
        """When `tick` has something to do, by itself."""
        return self._due[0][0] + 1 if self._due else None

    def reset(self) -> list[Action]:
        """A person has looked: the line may go on."""
        self._due.clear()
        was, self.line_stop = self.line_stop, False
        return [LineStop(False)] if was else []
