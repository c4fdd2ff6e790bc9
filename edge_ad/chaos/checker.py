"""The independent judge: reads what source, gate, outbox and station's log say, and trusts none of them.

It knows nothing of how daemon and station work: it reads the two databases as tables.
"""

from __future__ import annotations

import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edge_ad.chaos.plan import Files, Part

T = TypeVar("T")
SETTLING_NS = 1_000_000_000  # after READY

Row = tuple[str, int, str, str]  # epoch, seq, part, decision
Note = Callable[[str, str], None]  # kind, example


class Triggered(msgspec.Struct, frozen=True):
    """A part came past camera and station. Times of the monotonic clock."""

    number: int
    t_ns: int
    due_ns: int  # at the gate


class Action(msgspec.Struct, frozen=True):
    """What the gate did with a part: `held` is the key of the PASS that was live, "" for none."""

    number: int
    t_ns: int
    passed: bool
    held: str


class Window(msgspec.Struct, frozen=True):
    """A victim was down: from when it was last seen alive until it was ready again."""

    victim: str
    place: str
    killed_ns: int
    ready_ns: int
    deaths: int = 1  # it may die again before it is ready


class Acted(msgspec.Struct, frozen=True):
    """A PASS that the station says to have acted on: the part's key, and (source, epoch, seq) of the
    verdicts that were the reason."""

    key: str
    verdicts: list[tuple[str, str, int]]


class Verdicts(msgspec.Struct, frozen=True):
    """What the run has shown. What `ok` names has to be 0."""

    triggers: int
    gate_actions: int
    passed: int
    bad_parts: int
    wrong_triggers: int
    kills: dict[str, int]
    bad_passed: int
    wrong_part: int
    unanswered: int  # triggers without a gate action, or with several
    lost: int
    altered: int  # verdicts that the station's log has otherwise than the outbox, or alone
    duplicated: int
    reordered: int
    good_rejected_outside_windows: int
    unexplained_rejects: int  # without a daemon's verdict, outside of windows
    committed: int
    examples: dict[str, list[str]]

    @property
    def ok(self) -> bool:
        """Whether nothing happened that must not."""
        return not any(
            (
                self.bad_passed, self.wrong_part, self.unanswered, self.lost, self.altered,
                self.duplicated, self.reordered, self.good_rejected_outside_windows,
                self.unexplained_rejects,
            )
        )  # fmt: skip


class Windows:
    """When a part's way from trigger to gate meets a victim that is down or has just come up."""

    def __init__(self, windows: Iterable[Window]) -> None:
        self._spans = [(w.killed_ns, w.ready_ns + SETTLING_NS) for w in windows]

    def meets(self, triggered: Triggered) -> bool:
        """Whether it was triggered in a window, or was on the belt when one began."""
        return any(begin <= triggered.due_ns and triggered.t_ns <= end for begin, end in self._spans)


def check(
    parts: Sequence[Part],
    triggers: Sequence[Triggered],
    actions: Sequence[Action],
    windows: Sequence[Window],
    outbox: Sequence[Row],
    log: Sequence[Row],
    acted: Sequence[Acted] = (),
    replayed: Iterable[tuple[str, int]] = (),
) -> Verdicts:
    """Compare them. `outbox`: what the daemon committed, in its order; `log`: what the station has, in
    the order in which it came there; `acted`: by which it says to have passed what; `replayed`: verdicts
    that it was told again, by which nothing may pass."""
    by_number = {part.number: part for part in parts}
    when = {one.number: one for one in triggers}
    found: dict[str, list[str]] = {}

    def note(kind: str, text: str) -> None:
        found.setdefault(kind, []).append(text)

    _judge_actions(by_number, when, actions, Windows(windows), outbox, note)
    _judge_log(outbox, log, note)
    _judge_acted(outbox, acted, set(replayed), note)
    deaths: Counter[str] = Counter()
    for window in windows:
        deaths[window.victim] += window.deaths
    counts = {kind: len(examples) for kind, examples in found.items()}
    return Verdicts(
        triggers=len(when),
        gate_actions=len(actions),
        passed=sum(action.passed for action in actions),
        bad_parts=sum(by_number[number].bad for number in when),
        wrong_triggers=sum(not by_number[number].ordinary for number in when),
        kills=dict(deaths),
        bad_passed=counts.get("bad_passed", 0),
        wrong_part=counts.get("wrong_part", 0),
        unanswered=counts.get("unanswered", 0),
        lost=counts.get("lost", 0),
        altered=counts.get("altered", 0),
        duplicated=counts.get("duplicated", 0),
        reordered=counts.get("reordered", 0),
        good_rejected_outside_windows=counts.get("good_rejected_outside_windows", 0),
        unexplained_rejects=counts.get("unexplained_rejects", 0),
        committed=len(outbox),
        examples={kind: examples[:20] for kind, examples in found.items()},
    )


def _judge_actions(
    by_number: dict[int, Part],
    when: dict[int, Triggered],
    actions: Sequence[Action],
    down: Windows,
    outbox: Sequence[Row],
    note: Note,
) -> None:
    """One action for each trigger; what passed was good, and by a PASS of its own."""
    times = Counter(action.number for action in actions)
    for number in sorted(when.keys() | times.keys()):
        if times[number] != 1 or number not in when:
            key = by_number[number].key if number in by_number else f"part {number}"
            note("unanswered", f"{key}: {times[number]} gate actions, triggered: {number in when}")
    judged = {part for _, _, part, _ in outbox}
    good = {part for _, _, part, decision in outbox if decision == "PASS"}
    for action in actions:
        part, triggered = by_number[action.number], when.get(action.number)
        if action.passed and part.bad:
            note("bad_passed", part.key)
        if action.passed and action.held != part.key:
            note("wrong_part", f"{part.key} by the PASS of {action.held!r}")
        elif action.passed and part.key not in good:
            note("wrong_part", f"{part.key} by a PASS that no daemon committed")
        if action.passed or triggered is None or down.meets(triggered):
            continue
        if not part.bad and part.ordinary:
            note("good_rejected_outside_windows", f"{part.key} {_said(part.key, outbox)}")
        if part.camera and part.key not in judged:
            note("unexplained_rejects", part.key)


def _judge_log(outbox: Sequence[Row], log: Sequence[Row], note: Note) -> None:
    """All that was committed is in the log as it was, once, in order; and nothing else."""
    committed = {row[:2]: row for row in outbox}
    logged = [row[:2] for row in log]
    for epoch, seq in sorted(committed.keys() - set(logged)):
        note("lost", f"{epoch} {seq}")
    for row in log:
        if committed.get(row[:2]) != row:
            note("altered", f"{row} was committed as {committed.get(row[:2])}")
    for (epoch, seq), count in Counter(logged).items():
        if count > 1:
            note("duplicated", f"{epoch} {seq}: {count} times")
    place = {row: index for index, row in enumerate(committed)}
    known = [row for row in logged if row in place]
    for before, after in pairwise(known):
        if place[after] < place[before]:
            note("reordered", f"{after} after {before}")


def _judge_acted(
    outbox: Sequence[Row], acted: Sequence[Acted], replayed: set[tuple[str, int]], note: Note
) -> None:
    """No verdict lets two parts pass, nor another part, nor one that was told again."""
    said = {(epoch, seq): (part, decision) for epoch, seq, part, decision in outbox}
    used: Counter[tuple[str, int]] = Counter()
    for one in acted:
        named = [(epoch, seq) for _, epoch, seq in one.verdicts]
        used.update(named)
        if not named or any(said.get(each) != (one.key, "PASS") for each in named):
            note("wrong_part", f"{one.key} by {named}, which are no PASS of it")
        if any(each in replayed for each in named):
            note("wrong_part", f"{one.key} by {named}, which was told again")
    for each, count in used.items():
        if count > 1:
            note("duplicated", f"{each[0]} {each[1]}: acted on {count} times")


def _said(key: str, outbox: Sequence[Row]) -> str:
    said = [f"{decision} ({epoch} {seq})" for epoch, seq, part, decision in outbox if part == key]
    return ", ".join(said) or "without a verdict"


def read_lines(path: Path, kind: type[T]) -> list[T]:
    """What `plan.write_lines` wrote, or a process that appends."""
    decoder = msgspec.json.Decoder(kind)
    return [decoder.decode(line) for line in path.read_bytes().splitlines() if line]


def read_rows(path: Path, query: str) -> list[Any]:
    """Rows of a database that nobody writes to any more."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database, database:
        return [tuple(row) for row in database.execute(query)]


def main(arguments: Sequence[str]) -> None:
    """`python -m edge_ad.chaos.checker DIRECTORY OUTBOX LOG`: the result as JSON."""
    files = Files(arguments[0])
    result: Any = check(
        read_lines(files.plan, Part),
        read_lines(files.triggers, Triggered),
        read_lines(files.gate, Action),
        read_lines(files.windows, Window),
        read_rows(Path(arguments[1]), OUTBOX),
        read_rows(Path(arguments[2]), LOG),
        [
            Acted(key, msgspec.json.decode(verdicts, type=list[tuple[str, str, int]]))
            for key, verdicts in read_rows(Path(arguments[2]), ACTED)
        ],
        read_rows(Path(arguments[2]), REPLAYED),
    )
    sys.stdout.buffer.write(msgspec.json.encode(result))


OUTBOX = (
    "SELECT epochs.name, seq, part, decision FROM verdicts JOIN epochs ON epochs.id = verdicts.epoch "
    "ORDER BY verdicts.epoch, seq"
)
LOG = "SELECT epoch, seq, part, verdict FROM verdicts ORDER BY rowid"
ACTED = "SELECT key, verdicts FROM actions WHERE action = 'pass'"
REPLAYED = "SELECT epoch, seq FROM verdicts WHERE NOT live"

if __name__ == "__main__":
    main(sys.argv[1:])
