"""Rounds of known parts: which parts are of one, whether the line saw what they are, when one is due.

The next parts that are triggered after a round began are its own, in their order. They are judged and
rejected at the gate like all others, and are neither yield nor drift.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edge_ad.audit import record
from edge_ad.config import Challenge
from edge_ad.delivery.outcome import Outcome
from edge_ad.durable import write_durably
from edge_ad.errors import DeliveryError, DeviceError

FILE = "challenge.json"
HOUR_NS = 3_600_000_000_000


class Passed(msgspec.Struct, frozen=True):
    """The last round of a product that passed, and the bundle (sha256) that it proved."""

    t_wall_ns: int
    bundle: str


@dataclass(slots=True)
class Round:
    """Changed by the inspection thread, guarded by the lock of `Challenges` at its end. `result`:
    "running", "passed", "failed" or "cancelled"."""

    number: int
    expected: tuple[str, ...]
    began_ns: int
    who: str
    product: str
    bundle: str
    result: str = "running"
    why: str = ""
    parts: list[dict[str, Any]] = field(default_factory=list)

    def status(self) -> dict[str, Any]:
        """For `status` on the control socket."""
        return {
            "number": self.number, "result": self.result, "why": self.why, "product": self.product,
            "expected": list(self.expected), "parts": list(self.parts), "who": self.who,
        }  # fmt: skip


class Challenges:
    """`round` and `blocks` are attributes for the inspection thread, which calls `take`; `begin` and
    `cancel` are for the control thread, `follow`, `configure` and `supervise` for one thread at a time.

    `ended` is told of every round that is over, in whatever thread ends it, and must not block. Times
    by the wall clock, which outlives a restart; one that went back makes a round due.
    """

    def __init__(
        self,
        settings: Challenge,
        state: Path,
        clock: Callable[[], int],
        wall: Callable[[], int],
        ended: Callable[[Round], None],
    ) -> None:
        self.round: Round | None = None  # that goes on
        self.last: Round | None = None  # that was begun last
        self.due = False
        self.blocks = False
        self.counts = dict.fromkeys(("passed", "failed", "cancelled"), 0)
        self._settings = settings
        self._path = state / FILE
        self._clock = clock
        self._wall = wall
        self._ended = ended
        self._lock = threading.Lock()
        self._judge = ("", "")  # product and bundle in use
        self._passed = _read(self._path)
        self._proved: set[tuple[str, str]] = set()  # since the start

    def configure(self, settings: Challenge) -> None:
        """Take new settings; what was proved stays so."""
        self._settings = settings
        self.supervise()

    def follow(self, product: str, bundle: str) -> None:
        """What judges from now on; a round that goes on is over."""
        if (product, bundle) != self._judge:
            self.cancel("another bundle is in use")
            self._judge = product, bundle
        self.supervise()

    def supervise(self) -> None:
        """Find out whether a round is due."""
        self.due = self._is_due()
        self.blocks = self.due and self._settings.block

    def age_s(self) -> float:
        """Seconds since the last round that passed by what is in use; NaN without one."""
        product, bundle = self._judge
        last = self._passed.get(product)
        if last is None or last.bundle != bundle:
            return float("nan")
        return (self._wall() - last.t_wall_ns) / 1e9

    def begin(self, expected: tuple[str, ...], who: str) -> Round:
        """Begin a round: parts triggered from now on are its own. Raises DeliveryError."""
        product, bundle = self._judge
        if not bundle:
            raise DeliveryError("challenge: no bundle is in use; calibrate first")
        expected = expected or self._settings.parts
        with self._lock:
            if self.round is not None:
                raise DeliveryError(
                    f"challenge: round {self.round.number} goes on; 'edge-ad challenge --cancel' ends it"
                )
            number = 1 if self.last is None else self.last.number + 1
            begun = Round(number, expected, self._clock(), who, product, bundle)
            self.last = self.round = begun
        return begun

    def cancel(self, why: str) -> None:
        """End a round that goes on, unproved."""
        with self._lock:
            one = self.round
            if one is None:
                return
            self._end(one, "cancelled", why)
        self._ended(one)

    def take(self, one: Round, outcome: Outcome) -> None:
        """A part of the round was judged. Inspection thread."""
        with self._lock:
            if one.result != "running":
                return
            verdict = outcome.verdict
            wanted = one.expected[len(one.parts)]
            one.parts.append(
                {
                    "part": outcome.part, "expected": wanted, "verdict": verdict.decision.value,
                    "reason": verdict.reason.value,
                    "score": verdict.score if math.isfinite(verdict.score) else None,
                }
            )  # fmt: skip
            if (outcome.product, outcome.bundle) != (one.product, one.bundle):
                self._end(one, "failed", "another bundle judged it")
            elif verdict.decision.value != wanted:
                told = f"{verdict.decision.value} {verdict.reason.value}".strip()
                self._end(one, "failed", f"part {len(one.parts)} should be {wanted} and was {told}")
            elif len(one.parts) == len(one.expected):
                self._passed[one.product] = Passed(self._wall(), one.bundle)
                self._proved.add((one.product, one.bundle))
                self._end(one, "passed", "")
            else:
                return
        self._ended(one)

    def save(self) -> None:
        """Keep when rounds passed. Raises OSError."""
        with self._lock:
            data = msgspec.json.encode(self._passed)
        write_durably(self._path, data)

    def _end(self, one: Round, result: str, why: str) -> None:
        """Lock must be held by caller. What it proved counts before the next part is asked about."""
        one.result, one.why = result, why
        self.counts[result] += 1
        if result == "passed":
            self.supervise()
        self.round = None

    def _is_due(self) -> bool:
        settings = self._settings
        if not self._judge[1]:
            return False  # nothing passes anyhow
        if settings.at_start and self._judge not in self._proved:
            return True
        if not settings.every_hours:
            return False
        last = self._passed.get(self._judge[0])
        if last is None or last.bundle != self._judge[1]:
            return True
        return not 0 <= self._wall() - last.t_wall_ns < settings.every_hours * HOUR_NS


def keep(challenges: Challenges, one: Round, state: Path, wrote: Callable[[str, str], None]) -> None:
    """Put a round that is over on record, and say so. `wrote` takes a level and a line."""
    told = "; ".join(
        f"{part['part']} {part['expected']}: {part['verdict']} {part['reason']}".strip()
        for part in one.parts
    )
    try:
        if one.result == "passed":
            challenges.save()
        record(
            state, f"challenge {one.result}", product=one.product, who=one.who, reason=one.why,
            detail={"bundle": one.bundle, "parts": told},
        )  # fmt: skip
    except (OSError, DeviceError) as error:
        wrote("error", f"challenge: round {one.number} is not on record: {error}")
    level = "info" if one.result == "passed" else "warning"
    wrote(level, f"challenge: round {one.number} {one.result}{f': {one.why}' if one.why else ''}")


def _read(path: Path) -> dict[str, Passed]:
    """What is kept; nothing where it cannot be read: then a round is due."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Passed])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
