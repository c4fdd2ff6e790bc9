"""Which part may pass the gate: a state machine without input, output or clock.

Every part that the station's own sensor sees becomes an entry, and every entry ends in exactly one
`Pass` or `Reject`, when it comes to the gate. A `Pass` needs a live PASS of the part itself, from every
source that is required, in time; the order in which things arrive proves nothing. `Why` lists the rest.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque

from edge_ad.delivery.station.confirm import Confirmations
from edge_ad.delivery.station.events import (
    Action,
    Alarm,
    Entry,
    Heard,
    Pass,
    Promise,
    Reject,
    Resync,
    Revoke,
    Rules,
    Shut,
    Why,
)
from edge_ad.delivery.station.held import Held
from edge_ad.delivery.station.proof import Link, near, proven, refusal
from edge_ad.delivery.wire import Header, ScoreBody


class GateTracker:
    """The parts between the sensor and the gate. Not thread safe; times are ns of one monotonic clock.

    Every method returns what is to be done, in order. `unmatched` counts verdicts by what became of
    them where no part at hand was theirs: replayed, late, expired, no_room, stale, not_required.
    """

    def __init__(self, rules: Rules, line_stop: bool = False) -> None:
        self.rules = rules
        self.links = {source: Link() for source in rules.sources}
        self.confirmations = Confirmations(rules.confirm_ns, line_stop)
        self.parts = 0
        self.unmatched: Counter[str] = Counter()
        self._encoder: int | None = None
        self._belt: list[Entry] = []  # by place
        self._keys: OrderedDict[str, Entry] = OrderedDict()
        self._history: deque[Entry] = deque(maxlen=rules.max_parts)
        self._held = Held(rules.hold_ns, rules.max_held)
        self._last: Entry | None = None
        self._passing: Pass | None = None
        self._shut_at = 0

    @property
    def on_belt(self) -> int:
        """Parts that have not come to the gate."""
        return len(self._belt)

    def present(
        self, key: str | None, t_ns: int, now_ns: int, encoder: int | None = None, stale: bool = False
    ) -> list[Action]:
        """The sensor saw a part at `t_ns`. `stale`: when exactly is not known."""
        rules = self.rules
        actions = [] if encoder is None else self.encoder(encoder, now_ns)
        self.parts += 1
        base = self._encoder if rules.by_counts else t_ns
        entry = Entry(
            self.parts,
            (f"#{self.parts}" if rules.by_time else key or ""),
            t_ns,
            (base or 0) + rules.travel,
            t_ns + rules.deadline_ns,
        )
        self._admit(entry)
        if stale:
            entry.fail(Why.UNSYNCED, "seen too late to know when")
        actions += self._space(entry)
        self._history.append(entry)
        if base is None:
            entry.fail(Why.NO_ENCODER)
        elif len(self._belt) >= rules.max_parts:
            entry.fail(Why.OVERFLOW)
        else:
            self._insert(entry)
            actions += self._expire(now_ns) + self._offer_held(entry, now_ns)
            return actions + self.tick(now_ns)
        return [*actions, self._reject(entry)]

    def verdict(
        self, source: str, header: Header, body: ScoreBody, live: bool, now_ns: int
    ) -> list[Action]:
        """A verdict came. Only a live one can let a part pass."""
        link = self.links[source]
        entry = self._keys.get(header.part) if not self.rules.by_time else None
        if not live or source not in self.rules.required:
            self.unmatched["replayed" if not live else "not_required"] += 1
            if not live and entry is not None and not entry.acted and source in self.rules.required:
                entry.fail(Why.REPLAYED)
            return self.tick(now_ns)
        if not link.up:
            self.unmatched["stale"] += 1
            return self.tick(now_ns)
        fault = refusal(header, self.rules, link.epoch)
        heard = Heard(source, header, body, now_ns, fault, link.expected(header, self.rules))
        if self.rules.by_time:
            if fault in (Why.VERSION, Why.STATION, Why.UNSYNCED):
                self.unmatched["stale"] += 1  # its times and counts are not this link's
                return self.tick(now_ns)
            link.note(heard)
            return self._pair(heard, now_ns) + self.tick(now_ns)
        if entry is None:
            self._hold(heard)
        elif entry.acted:
            self.unmatched["late"] += 1
        else:
            self._offer(entry, heard)
        return self.tick(now_ns)

    def link_up(
        self, source: str, station: str, epoch: str, offset_ns: int, uncertainty_ns: int, now_ns: int
    ) -> list[Action]:
        """A daemon has answered. What was present before is not passed."""
        link = self.links[source]
        if station != self.rules.station:
            link.up, link.why = False, Why.STATION
            self._drop_belt(source, Why.STATION, station)
            text = (
                f"source {source!r} is the daemon of station {station!r}, not of "
                f"{self.rules.station!r}; set its endpoint"
            )
            return [Alarm("station", text), *self.tick(now_ns)]
        link.up, link.epoch = True, epoch
        link.offset_ns, link.uncertainty_ns = offset_ns, uncertainty_ns
        link.times.clear()
        link.unsync(now_ns)
        self._drop_belt(source, Why.UNSYNCED, "present before the link")
        return [Resync(source, f"link up in epoch {epoch}"), *self.tick(now_ns)]

    def link_down(self, source: str, why: str, now_ns: int) -> list[Action]:
        """A daemon is not heard any more."""
        link = self.links[source]
        was, link.up, link.why = link.up, False, Why.LINK_DOWN
        self._drop_belt(source, Why.LINK_DOWN, why)
        alarm = [Alarm("link", f"source {source!r} is down: {why}")] if was else []
        return [*alarm, *self.tick(now_ns)]

    def clock(self, source: str, offset_ns: int, uncertainty_ns: int) -> None:
        """A better comparison of a daemon's clock with this one."""
        link = self.links[source]
        link.offset_ns, link.uncertainty_ns = offset_ns, uncertainty_ns

    def desync(self, why: str, now_ns: int) -> list[Action]:
        """Something was lost at the station: what is on the belt cannot be proven any more."""
        for entry in self._belt:
            entry.fail(Why.UNSYNCED, why)
        self._held.clear()
        resyncs: list[Action] = []
        for source, link in self.links.items():
            link.unsync(now_ns)
            resyncs.append(Resync(source, why))
        return [*resyncs, *self.tick(now_ns)]

    def encoder(self, count: int, now_ns: int) -> list[Action]:
        """The encoder stands at `count`. Counts that go back prove nothing about where parts are."""
        before, self._encoder = self._encoder, count
        if self.rules.by_counts and before is not None and count < before:
            for entry in self._belt:
                entry.place = count  # they are somewhere: reject them here and now
            passing, self._passing = self._passing, None
            shut = [] if passing is None else [Shut("the encoder went back", passing.key)]
            return [*shut, *self.desync(f"encoder went from {before} to {count}", now_ns)]
        return self.tick(now_ns)

    def confirmed(self, now_ns: int) -> list[Action]:
        """Something was seen in the reject bin."""
        return self.confirmations.seen() + self.tick(now_ns)

    def reset(self, now_ns: int) -> list[Action]:
        """A person has looked at an alarm."""
        return self.tick(now_ns) + self.confirmations.reset()

    def tick(self, now_ns: int) -> list[Action]:
        """Time has passed: act on the parts that have come to the gate."""
        actions: list[Action] = []
        rules = self.rules
        here = (self._encoder or 0) if rules.by_counts else now_ns
        if self._passing is not None and here > self._shut_at:
            if rules.by_counts and now_ns < self._passing.until_ns:
                actions.append(Shut("the part is past the gate", self._passing.key))
            self._passing = None
        while self._belt and self._belt[0].place - rules.before <= here:
            actions += self._act(self._belt.pop(0), here, now_ns)
        actions += self._expire(now_ns)
        stops = self.confirmations.tick(now_ns)
        if stops:
            for entry in self._belt:
                entry.fail(Why.LINE_STOP)
        return actions + stops + self._promises()

    def next_due(self) -> int | None:
        """When `tick` has something to do though nothing comes in; None: nothing by itself."""
        due = [self.confirmations.next_due(), self._held.next_due()]
        if self._belt and not self.rules.by_counts:
            due.append(self._belt[0].place - self.rules.before)
        return min((t for t in due if t is not None), default=None)

    def _admit(self, entry: Entry) -> None:
        """What is wrong with a part from the beginning."""
        if self.confirmations.line_stop:
            entry.fail(Why.LINE_STOP)
        if not self.rules.by_time:
            self._know(entry)
        for source in self.rules.required:
            link = self.links[source]
            if not link.up:
                entry.fail(link.why, source)
            elif entry.t_ns <= link.since_ns:
                entry.fail(Why.UNSYNCED, source)

    def _know(self, entry: Entry) -> None:
        if not entry.key:
            entry.fail(Why.NO_KEY)
            return
        before = self._keys.pop(entry.key, None)
        if before is not None:
            entry.fail(Why.KEY_REUSED)
            if not before.acted:
                before.fail(Why.KEY_REUSED)
        self._keys[entry.key] = entry
        # Keys on the belt are never forgotten: max_parts is less than what is remembered.
        while len(self._keys) > max(self.rules.remember, 2 * self.rules.max_parts):
            self._keys.popitem(last=False)

    def _space(self, entry: Entry) -> list[Action]:
        """Where two parts are at the gate together, neither may pass."""
        reach = self.rules.before + self.rules.after
        last, self._last = self._last, entry
        others = [*self._belt, *([last] if last is not None else [])]
        for other in others:
            if abs(entry.place - other.place) <= reach:
                entry.fail(Why.TOO_CLOSE)
                if not other.acted:
                    other.fail(Why.TOO_CLOSE)
        passing = self._passing
        if passing is None or abs(entry.place - (self._shut_at - self.rules.after)) > reach:
            return []
        entry.fail(Why.TOO_CLOSE)
        self._passing = None
        return [Shut("another part is too close", passing.key)]

    def _insert(self, entry: Entry) -> None:
        self._belt.append(entry)
        if len(self._belt) > 1 and self._belt[-2].place > entry.place:
            self._belt.sort(key=lambda e: e.place)

    def _offer_held(self, entry: Entry, now_ns: int) -> list[Action]:
        reach = 2 * self.rules.match_ns
        if not self.rules.by_time:
            for heard in self._held.take(lambda h: h.header.part == entry.key):
                self._offer(entry, heard)
            return []
        actions: list[Action] = []
        for heard in self._held.take(lambda h: abs(h.expected_ns - entry.t_ns) <= reach):
            actions += self._pair(heard, now_ns)
        return actions

    def _hold(self, heard: Heard) -> None:
        self.unmatched["no_room"] += self._held.add(heard)

    def _offer(self, entry: Entry, heard: Heard) -> None:
        """A live verdict that is this part's own."""
        have = entry.verdicts.get(heard.source)
        if have is not None:
            if have.named != heard.named:
                entry.fail(Why.KEY_REUSED, "two verdicts")
            return
        entry.verdicts[heard.source] = heard
        if heard.fault is not None:
            entry.fail(heard.fault, heard.source)
        elif heard.body.verdict != "PASS":
            entry.fail(Why.NOT_PASS, heard.body.reason or heard.body.verdict)
        elif heard.t_ns > entry.deadline_ns:
            entry.fail(Why.LATE)
        elif self.rules.match_ns and not self.links[heard.source].meets(heard, entry, self.rules):
            entry.fail(Why.AMBIGUOUS, "triggered at another time than the part was present")

    def _pair(self, heard: Heard, now_ns: int) -> list[Action]:
        """Find the part of a verdict by time, and compare the counts."""
        rules, link = self.rules, self.links[heard.source]
        entries = near(self._history, heard.expected_ns, 2 * rules.match_ns)
        if not entries:
            self._hold(heard)
            return []
        entry, why = entries[0], Why.AMBIGUOUS
        if len(entries) > 1 or not link.alone(heard, entry, rules):
            what = "more than one part, or verdict, at one time"
        elif not link.meets(heard, entry, rules):
            what = "part and verdict are apart in time"
        elif not link.agree(heard, entry, rules):
            why = Why.UNSYNCED
            what = f"count {heard.header.count} of the daemon is not that of part {entry.number}"
        elif entry.acted:
            self.unmatched["late"] += 1
            return []
        else:
            self._offer(entry, heard)
            return []
        for other in entries:
            other.fail(why, what)
        return self._lose(heard.source, what, now_ns)

    def _lose(self, source: str, why: str, now_ns: int) -> list[Action]:
        """The counts of both sides do not agree any more: nothing on the belt is proven."""
        self.links[source].unsync(now_ns)
        for entry in self._belt:
            entry.fail(Why.UNSYNCED, why)
        # Verdicts whose part should have been seen by now are a part of this very loss.
        gone = now_ns - 2 * self.rules.match_ns
        lost = self._held.take(lambda h: h.source == source and h.expected_ns < gone)
        self.unmatched["expired"] += len(lost)
        return [Resync(source, why)]

    def _expire(self, now_ns: int) -> list[Action]:
        actions: list[Action] = []
        for heard in self._held.expired(now_ns):
            self.unmatched["expired"] += 1
            if self.rules.by_time:
                actions += self._lose(heard.source, "a verdict without a part", now_ns)
        return actions

    def _drop_belt(self, source: str, why: Why, detail: str) -> None:
        """A link has changed: what is on the belt is not proven, nor what was held."""
        self.unmatched["stale"] += len(self._held.take(lambda h: h.source == source))
        if source in self.rules.required:
            for entry in self._belt:
                if not (self.rules.keep_proven and source in entry.verdicts):
                    entry.fail(why, detail)

    def _promises(self) -> list[Action]:
        """Say ahead of time which parts may pass, and take back what does not hold any more."""
        actions: list[Action] = []
        rules = self.rules
        if rules.by_counts or not rules.promises:
            return actions  # by counts it is not known when the part is at the gate
        for entry in self._belt:
            doubt = self._doubt(entry) if entry.why is None else (entry.why, entry.detail)
            if entry.promised and doubt is not None:
                entry.promised = False
                entry.fail(*doubt)
                actions.append(Revoke(entry.number, entry.key, doubt[0]))
            elif not entry.promised and doubt is None:
                entry.promised = True
                start, end = entry.place - rules.before, entry.place + rules.after
                actions.append(Promise(entry.number, entry.key, start, end))
        return actions

    def _doubt(self, entry: Entry) -> tuple[Why, str] | None:
        """Why a part against which nothing speaks is not proven to be good either, and by whom."""
        for source in sorted(self.rules.required):
            heard = entry.verdicts.get(source)
            if heard is None:
                return Why.NO_VERDICT, source
            if self.rules.by_time:
                doubt = proven(entry, heard, self.links[source], self._history, self.rules)
                if doubt is not None:
                    return doubt, source
        return None

    def _act(self, entry: Entry, here: int, now_ns: int) -> list[Action]:
        """The one action of a part, at the gate."""
        rules = self.rules
        self.confirmations.begin()
        doubt = self._doubt(entry)
        if doubt is not None:
            entry.fail(*doubt)
        if here > entry.place + rules.after and not entry.promised:
            entry.fail(Why.MISSED)
        if entry.why is not None:
            leaves = now_ns if rules.by_counts else max(now_ns, entry.place + rules.after)
            self.confirmations.expect(entry.key, leaves)
            back = [Revoke(entry.number, entry.key, entry.why)] if entry.promised else []
            return [*back, self._reject(entry)]
        entry.acted = True
        until = now_ns + rules.pulse_ns if rules.by_counts else entry.place + rules.after
        self._passing = Pass(
            entry.number, entry.key, now_ns, until, entry.named, entry.t_ns, entry.heard_ns
        )
        self._shut_at = entry.place + rules.after
        entry.verdicts.clear()  # the entry is remembered for its key
        return [self._passing]

    def _reject(self, entry: Entry) -> Reject:
        entry.acted = True
        action = Reject(
            entry.number, entry.key, entry.why or Why.NO_VERDICT, entry.detail, entry.named, entry.t_ns,
            entry.heard_ns,
        )  # fmt: skip
        entry.verdicts.clear()  # the entry is remembered for its key
        return action
