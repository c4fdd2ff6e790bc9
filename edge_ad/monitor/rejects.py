"""Parts that were looked at and did not pass: so many in a row, or so large a share, is no chance."""

from __future__ import annotations

from collections import deque

from edge_ad.config import Monitor


class Rejects:
    """Counts of one thread, read by others. `in_row`: since the last PASS; `share`: of the last parts,
    0 until there were as many as the window holds."""

    def __init__(self, settings: Monitor) -> None:
        self.in_row = 0
        self._settings = settings
        self._last: deque[bool] = deque(maxlen=settings.reject_window)
        self._rejected = 0

    @property
    def share(self) -> float:
        """Of the last parts, those that did not pass."""
        full = len(self._last) == self._settings.reject_window
        return self._rejected / self._settings.reject_window if full else 0.0

    @property
    def row_alarm(self) -> bool:
        """Whether as many in a row as the station file says did not pass."""
        return 0 < self._settings.rejects_in_row <= self.in_row

    @property
    def share_alarm(self) -> bool:
        """Whether a larger share than the station file says did not pass."""
        return 0.0 < self._settings.reject_rate < self.share

    def add(self, passed: bool) -> None:
        """Count a part."""
        self.in_row = 0 if passed else self.in_row + 1
        if len(self._last) == self._settings.reject_window:
            self._rejected -= self._last[0]
        self._last.append(not passed)
        self._rejected += not passed
