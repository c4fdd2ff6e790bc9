"""A camera's counter of triggers, which begins anew after its last value."""

from __future__ import annotations


class Unwrapped:
    """Continues a counter of `first` to `last` without end; `last` 0: it never wraps. A step back of
    more than half of its range is a wrap; any other is a camera that counts anew. Not thread safe."""

    def __init__(self, first: int, last: int) -> None:
        self._range = last - first + 1 if last else 0
        self._raw: int | None = None
        self._laps = 0

    def of(self, raw: int) -> int:
        """The counter as if it had never wrapped."""
        before, self._raw = self._raw, raw
        if before is not None and self._range and before - raw > self._range // 2:
            self._laps += 1
        return raw + self._laps * self._range
