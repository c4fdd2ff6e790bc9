"""Rounds of known parts: which parts are of one, whether the line saw what they are, when one is due.

The next parts that are triggered after a round began are its own, in their order. They are judged like
all others, and are neither yield nor drift. The first that gets another verdict than it should fails the
round, which then proves the contrary; what comes of it after that never passes, nor does a part that is
known to be bad.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from edge_ad.audit import record
from edge_ad.config import Challenge
from edge_ad.delivery.outcome import Outcome
from edge_ad.durable import write_durably
from edge_ad.errors import DeliveryError, DeviceError
from edge_ad.verdict import Decision, Reason, Verdict, fault

FILE = "challenge.json"
MOST_ROUND_S = 7_200.0
MOST_OVERRIDE_S = 43_200.0
HOUR_NS = 3_600_000_000_000
NOTHING = "", "", ""

Judge = tuple[str, str, str]  # product, bundle (sha256), engine


class Last(msgspec.Struct, frozen=True):
    """How the last round of a product ended, and what it was about."""

    t_wall_ns: int
    bundle: str
    engine: str
    passed: bool


@dataclass(slots=True)
class Round:
    """Guarded by the lock of `Challenges`. `result`: "running", "passed", "failed" or "cancelled";
    `recorded`: None until it is over and was to be put on record, then "" or why it is not there."""

    number: int
    expected: tuple[str, ...]
    began_ns: int
    ends_ns: int
    who: str
    judge: Judge
    result: str = "running"
    why: str = ""
    recorded: str | None = None
    parts: list[dict[str, Any]] = field(default_factory=list)

    def status(self) -> dict[str, Any]:
        """For `status` on the control socket."""
        return {
            "number": self.number, "result": self.result, "why": self.why, "product": self.judge[0],
            "expected": list(self.expected), "parts": list(self.parts), "who": self.who,
            "recorded": self.recorded,
        }  # fmt: skip


class Challenges:
    """`round`, `guards` and `allowed` are for the inspection thread to read, which calls `shown` and
    `take`; the rest is for any thread. While `guards`, nothing but what is `allowed` may pass a part.

    `ended` is told of every round that is over, in whatever thread ends it, and must not block. How long
    ago a round was is told by the wall clock, which outlives a restart, and by the monotonic one.
    """

    def __init__(
        self,
        settings: Challenge,
        state: Path,
        clock: Callable[[], int],
        wall: Callable[[], int],
        ended: Callable[[Round], None],
    ) -> None:
        self.round: Round | None = None  # whose parts still come
        self.last: Round | None = None  # that was begun last
        self.due = False
        self.guards = settings.block
        self.allowed: tuple[Judge, ...] = ()
        self.counts = dict.fromkeys(("passed", "failed", "cancelled"), 0)
        self._settings = settings
        self._path = state / FILE
        self._clock = clock
        self._wall = wall
        self._ended = ended
        self._lock = threading.RLock()
        self._judge: Judge = NOTHING
        self._next: Judge = NOTHING
        self._override_ns = 0  # until then nothing is blocked
        self._known = _read(self._path)  # by product
        self._passed_ns: dict[Judge, int] = {}  # since the start

    def expect(self, judge: Judge) -> None:
        """This may judge the next part; what judges now goes on."""
        with self._lock:
            self._next = judge
            self._look()

    def follow(self, settings: Challenge, judge: Judge) -> None:
        """This judges from now on; a round of another is over."""
        with self._lock:
            self._settings, self.guards = settings, settings.block
            self._next = judge
            if judge != self._judge:
                self._judge, self._override_ns = judge, 0
                self.cancel("another bundle or engine is in use")
            self._look()

    def supervise(self) -> None:
        """Find out whether a round is due, or takes too long."""
        with self._lock:
            if self.round is not None and self._clock() >= self.round.ends_ns:
                self.cancel("its parts did not come in time")
            self._look()

    def age_s(self) -> float:
        """Seconds since the last round that passed by what is in use; NaN without one."""
        with self._lock:
            age_ns = self._age_ns(self._judge)
        return float("nan") if age_ns is None else age_ns / 1e9

    def begin(self, expected: tuple[str, ...], who: str, timeout_s: float) -> Round:
        """Begin a round: parts triggered from now on are its own. Raises DeliveryError."""
        if not 0 < timeout_s <= MOST_ROUND_S:
            raise DeliveryError(f"challenge: a round may take up to {MOST_ROUND_S:g} s")
        with self._lock:
            if not self._judge[1]:
                raise DeliveryError("challenge: no bundle is in use; calibrate first")
            if self.round is not None:
                raise DeliveryError(
                    f"challenge: round {self.round.number} goes on; 'edge-ad challenge --cancel' ends it"
                )
            number = 1 if self.last is None else self.last.number + 1
            now = self._clock()
            begun = Round(
                number, expected or self._settings.parts, now, now + int(timeout_s * 1e9), who,
                self._judge,
            )  # fmt: skip
            self.last = self.round = begun
        return begun

    def cancel(self, why: str) -> None:
        """End a round that goes on, unproved."""
        with self._lock:
            one, self.round = self.round, None
            if one is not None and one.result == "running":
                self._end(one, "cancelled", why)

    def shown(self, one: Round, verdict: Verdict) -> Verdict:
        """What the gate is told of a part of the round. Inspection thread."""
        with self._lock:
            over = one.result in ("failed", "cancelled")
            bad = over or one.expected[len(one.parts)] == Decision.REJECT.value
        if bad and verdict.passed:
            detail = f"a known part that must not pass, and scores {verdict.score:.4g}"
            return fault(Reason.CHALLENGE, verdict.threshold, detail)
        return verdict

    def take(self, one: Round, outcome: Outcome, verdict: Verdict) -> None:
        """A part of the round was judged, as `verdict` says. Inspection thread."""
        with self._lock:
            if self.round is not one:
                return
            wanted = one.expected[len(one.parts)]
            one.parts.append(
                {
                    "part": outcome.part, "expected": wanted, "verdict": verdict.decision.value,
                    "reason": verdict.reason.value,
                    "score": verdict.score if math.isfinite(verdict.score) else None,
                }
            )  # fmt: skip
            over = len(one.parts) == len(one.expected)
            if over:
                self.round = None
            if one.result != "running":
                return
            if (outcome.product, outcome.bundle, outcome.engine) != one.judge:
                self._failed(one, "another bundle or engine judged it")
            elif verdict.reason is Reason.NOT_KEPT:  # which says nothing of what the line sees
                self._end(one, "cancelled", verdict.detail)
            elif verdict.decision.value != wanted:
                told = f"{verdict.decision.value} {verdict.reason.value}".strip()
                self._failed(one, f"part {len(one.parts)} should be {wanted} and was {told}")
            elif over:
                why = "" if self._proves(one) else "of fewer parts than challenge.parts: proves nothing"
                if not why:
                    self._note(one, True)
                self._end(one, "passed", why)

    def override(self, seconds: float, who: str, reason: str) -> None:
        """Let parts pass for so long although a round is due. It ends with the daemon and with what
        judges. Raises DeliveryError, and DeviceError where it cannot be put on record; waits for the
        disk."""
        if not (reason.strip() and who.strip()):
            raise DeliveryError("challenge: an override needs who and a reason")
        if not 0 <= seconds <= MOST_OVERRIDE_S:
            raise DeliveryError(f"challenge: an override lasts 0 to {MOST_OVERRIDE_S:g} s")
        judge = self._judge
        if not self.due:
            raise DeliveryError("challenge: no round is due, so there is nothing to override")
        ends = datetime.fromtimestamp(self._wall() / 1e9 + seconds, timezone.utc)
        record(
            self._path.parent, "challenge override", product=judge[0], who=who, reason=reason,
            detail={"bundle": judge[1], "until": ends.isoformat(timespec="seconds")},
        )  # fmt: skip
        with self._lock:
            if self._judge != judge:
                raise DeliveryError("challenge: another bundle or engine came into use; ask again")
            self._override_ns = self._clock() + int(seconds * 1e9)
            self._look()

    def override_s(self) -> float:
        """Seconds that an override has left, 0 without one."""
        return max(0.0, (self._override_ns - self._clock()) / 1e9)

    def save(self) -> None:
        """Keep how rounds ended. Raises OSError."""
        with self._lock:
            data = msgspec.json.encode(self._known)
        write_durably(self._path, data)

    def _failed(self, one: Round, why: str) -> None:
        """Lock must be held by caller, as in all below. What was proved before is not so any more."""
        self._note(one, False)
        self._end(one, "failed", why)

    def _note(self, one: Round, passed: bool) -> None:
        product, bundle, engine = one.judge
        self._known[product] = Last(self._wall(), bundle, engine, passed)
        self._passed_ns.pop(one.judge, None)
        if passed:
            self._passed_ns[one.judge] = self._clock()

    def _end(self, one: Round, result: str, why: str) -> None:
        one.result, one.why = result, why
        self.counts[result] += 1
        self._look()
        self._ended(one)

    def _look(self) -> None:
        self.due = self._is_due(self._judge)
        free = () if self.due and not self.override_s() else (self._judge,)
        # Whoever swaps takes what it expects; whatever comes into use otherwise is not allowed yet.
        self.allowed = free if self._is_due(self._next) else (*free, self._next)

    def _proves(self, one: Round) -> bool:
        """Whether it had as many good and as many bad parts as the station file wants."""
        wanted = self._settings.parts
        return all(one.expected.count(what) >= wanted.count(what) for what in set(wanted))

    def _is_due(self, judge: Judge) -> bool:
        if not judge[1]:
            return False  # without a bundle nothing passes anyhow
        settings, last = self._settings, self._known.get(judge[0])
        if last is not None and (last.bundle, last.engine) == judge[1:] and not last.passed:
            return True  # it was proved that the line does not see what it should
        if settings.at_start and judge not in self._passed_ns:
            return True
        if not settings.every_hours:
            return False
        age_ns = self._age_ns(judge)
        return age_ns is None or not 0 <= age_ns < settings.every_hours * HOUR_NS

    def _age_ns(self, judge: Judge) -> int | None:
        """Below 0 where the wall clock went back behind it."""
        last = self._known.get(judge[0])
        if last is None or not last.passed or (last.bundle, last.engine) != judge[1:]:
            return None
        by_wall = self._wall() - last.t_wall_ns
        since_ns = self._passed_ns.get(judge)
        return by_wall if since_ns is None or by_wall < 0 else max(by_wall, self._clock() - since_ns)


def keep(challenges: Challenges, one: Round, state: Path, tell: Callable[[str, str], None]) -> None:
    """Put a round that is over on record, and say so. Waits for the disk."""
    told = "; ".join(map(_told, one.parts))
    problems = []
    if one.result != "cancelled":
        try:
            challenges.save()
        except OSError as error:
            problems.append(f"{state / FILE}: {error.strerror or error}")
    try:
        record(
            state, f"challenge {one.result}", product=one.judge[0], who=one.who, reason=one.why,
            detail={"bundle": one.judge[1], "engine": one.judge[2], "parts": told},
        )  # fmt: skip
    except DeviceError as error:
        problems.append(str(error))
    one.recorded = "; ".join(problems)
    if problems:
        tell("error", f"challenge: round {one.number} is not on record: {one.recorded}")
    level = "info" if one.result == "passed" else "warning"
    tell(level, f"challenge: round {one.number} {one.result}{f': {one.why}' if one.why else ''}")


def _told(part: dict[str, Any]) -> str:
    """A part of a round for the record."""
    text = f"{part['part']} {part['expected']}: {part['verdict']} {part['reason']}".strip()
    return text if part["score"] is None else f"{text} {part['score']:.4g}"


def _read(path: Path) -> dict[str, Last]:
    """What is kept; nothing where it cannot be read: then a round is due."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Last])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
