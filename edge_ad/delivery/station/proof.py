"""What proves that a verdict is a part's own, where no key does: time, and agreement of the counts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from edge_ad.delivery.station.events import Entry, Heard, Rules, Why
from edge_ad.delivery.wire import VERSION, Header

_MOST_TIMES = 1024
_DISORDER_NS = 1_000_000_000  # by which times may come out of order


def refusal(header: Header, rules: Rules, epoch: str) -> Why | None:
    """Why nothing may act on a live verdict with this header, whichever part it is about."""
    if header.v.partition(".")[0] != VERSION.partition(".")[0]:
        return Why.VERSION
    if header.station != rules.station:
        return Why.STATION
    if header.epoch != epoch:
        return Why.UNSYNCED
    if rules.product and header.product != rules.product:
        return Why.PRODUCT
    if header.advisory:
        return Why.ADVISORY
    return None


@dataclass(slots=True)
class Link:
    """One source of verdicts: whether it is heard, since when, and how its clock and counts compare.

    `difference`: the daemon's count of triggers less the station's count of parts; `agreed`: how many
    verdicts in a row it has held for; `synced`: often enough. Only parts present after `since_ns` count.
    """

    up: bool = False
    why: Why = Why.LINK_DOWN  # while it is not up
    epoch: str = ""
    since_ns: int = 0
    offset_ns: int = 0
    uncertainty_ns: int = 0
    difference: int | None = None
    agreed: int = 0
    synced: bool = False
    times: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_MOST_TIMES))

    def expected(self, header: Header, rules: Rules) -> int:
        """When the verdict's part was at the station's sensor, by the station's clock."""
        return header.t_trigger_ns - self.offset_ns + rules.match_offset_ns

    def note(self, heard: Heard) -> None:
        """Keep when a verdict's part was there, for `alone`."""
        self.times.append((heard.expected_ns, heard.header.seq))

    def alone(self, heard: Heard, entry: Entry, rules: Rules) -> bool:
        """Whether no other verdict of this source may be about the part."""
        reach = 2 * rules.match_ns
        for t, seq in reversed(self.times):
            if abs(t - entry.t_ns) <= reach and seq != heard.header.seq:
                return False
            if t < entry.t_ns - reach - _DISORDER_NS:
                break
        return True

    def meets(self, heard: Heard, entry: Entry, rules: Rules) -> bool:
        """Whether the verdict's part was at the sensor when this part was."""
        apart = abs(heard.expected_ns - entry.t_ns)
        return apart + self.uncertainty_ns <= rules.match_ns

    def agree(self, heard: Heard, entry: Entry, rules: Rules) -> bool:
        """Compare the counts of a pair; False where they have changed against each other."""
        if heard.header.count is None:
            return False
        difference = heard.header.count - entry.number
        if self.difference is not None and difference != self.difference:
            return False
        self.difference = difference
        if entry.t_ns > self.since_ns:
            self.agreed += 1
            self.synced = self.synced or self.agreed >= rules.resync_parts
        return True

    def unsync(self, now_ns: int, difference: int | None = None) -> None:
        """Begin to compare anew, with parts that come after `now_ns`."""
        self.since_ns = now_ns
        self.difference, self.agreed, self.synced = difference, 0, False


def near(entries: deque[Entry], t_ns: int, reach_ns: int) -> list[Entry]:
    """The parts that were at the sensor within `reach_ns` of a time."""
    found = []
    for entry in reversed(entries):
        if abs(entry.t_ns - t_ns) <= reach_ns:
            found.append(entry)
        if entry.t_ns < t_ns - reach_ns - _DISORDER_NS:
            break
    return found


def proven(entry: Entry, heard: Heard, link: Link, history: deque[Entry], rules: Rules) -> Why | None:
    """Why a verdict that was paired with a part by time is, in the end, not proven to be its own."""
    if not link.synced:
        return Why.UNSYNCED
    others = near(history, heard.expected_ns, 2 * rules.match_ns)
    if any(other is not entry for other in others) or not link.alone(heard, entry, rules):
        return Why.AMBIGUOUS
    return None
