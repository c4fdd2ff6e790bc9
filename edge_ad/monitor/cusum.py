"""A two-sided cumulative sum: notices a small lasting shift soon, and seldom sees one that is not there.

E. S. Page, "Continuous inspection schemes", Biometrika 41 (1954); the run length without a shift is
D. Siegmund's approximation, "Sequential Analysis" (1985), eq. 2.57 with his correction of 1.166 for
steps in place of a continuous path.
"""

from __future__ import annotations

import math

SLACK = 0.5  # deviations that are no drift; a shift of twice as many is noticed soonest
_CONFIDENCE = 1.645  # of 95 % of references the mean is off by less, in deviations of a mean
_STEP = 1.166
_ENDS = 0.5  # an alarm ends below this share of the limit


def slack(parts: int) -> float:
    """What a good part may deviate where the reference's mean is known from so many parts only."""
    return SLACK + _CONFIDENCE / math.sqrt(parts)


def limit(parts: float, statistics: int) -> float:
    """The sum at which so many statistics, watched both ways, give one false alarm in `parts` parts."""
    wanted = parts * statistics * 2
    low, high = 0.0, 100.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if _run_length(middle) < wanted else (low, middle)
    return high


def _run_length(limit: float) -> float:
    """Parts until a one-sided alarm, on average, of normal deviations."""
    reach = 2 * SLACK * (limit + _STEP)
    return (math.exp(reach) - reach - 1) / (2 * SLACK**2)


class Cusum:
    """One statistic. `ratio`: 1 raises the alarm, which stays until it is below a half; `higher`: which
    way it went; `alarms`: so far."""

    __slots__ = ("_down", "_limit", "_slack", "_up", "alarm", "alarms")

    def __init__(self, slack: float, limit: float) -> None:
        self.alarm = False
        self.alarms = 0
        self._slack = slack
        self._limit = limit
        self._up = self._down = 0.0

    @property
    def ratio(self) -> float:
        """The larger sum over the limit, 0 to 1."""
        return max(self._up, self._down) / self._limit

    @property
    def higher(self) -> bool:
        """Whether values are larger than they were, not smaller."""
        return self._up > self._down

    def add(self, z: float) -> bool:
        """Take one deviation; True when an alarm begins or ends with it."""
        # Bounded above: what went on for days must not take days to be over.
        self._up = min(self._limit, max(0.0, self._up + z - self._slack))
        self._down = min(self._limit, max(0.0, self._down - z - self._slack))
        before, ratio = self.alarm, self.ratio
        self.alarm = ratio >= (_ENDS if before else 1.0)
        self.alarms += self.alarm and not before
        return self.alarm is not before
