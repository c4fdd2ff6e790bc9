"""What the tracker of the gate is told of parts, what it keeps of each, and what it asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from edge_ad.delivery.wire import Header, ScoreBody


class Why(str, Enum):
    """Why a part is rejected. The list is closed: metrics and readers of the log may enumerate it."""

    NO_VERDICT = "no_verdict"  # a source that is required said nothing about the part before the gate
    LATE = "late"  # its verdict came after deadline_ms
    NOT_PASS = "not_pass"  # REJECT or FAULT; the detail is the daemon's reason
    REPLAYED = "replayed"  # its verdict was told again, not given just now
    ADVISORY = "advisory"  # no trigger proves that the verdict's frame was a part
    UNSYNCED = "unsynced"  # it was present before both sides agreed (again) on which part is which
    LINK_DOWN = "link_down"  # a source that is required was not heard
    STATION = "station"  # the verdict or the link is another station's
    PRODUCT = "product"  # the verdict is about another product
    VERSION = "version"  # the verdict has another major version
    NO_KEY = "no_key"  # the part was announced without a key
    KEY_REUSED = "key_reused"  # two parts, or two verdicts of one source, had this key
    AMBIGUOUS = "ambiguous"  # by time more than one part, or verdict, may be meant
    TOO_CLOSE = "too_close"  # the gate cannot part it from its neighbour
    NO_ENCODER = "no_encoder"  # no count says where the part is
    MISSED = "missed"  # it was past the gate when the station came to it
    OVERFLOW = "overflow"  # more parts on the belt than max_parts
    LINE_STOP = "line_stop"  # a line-stop alarm was not reset

    def __str__(self) -> str:
        return self.value


Named = tuple[str, str, int]  # source, epoch, seq of a verdict


@dataclass(frozen=True, slots=True)
class Pass:
    """Let the part go by, from now until `until_ns` and not a moment longer. `present_ns`: when it was
    at the sensor; `heard_ns`: when the last verdict that it needed came."""

    number: int  # counts the parts of this run of the station from 1
    key: str
    from_ns: int
    until_ns: int
    verdicts: tuple[Named, ...]
    present_ns: int = 0
    heard_ns: int = 0


@dataclass(frozen=True, slots=True)
class Reject:
    """The part is at the gate and must not go by: no signal is due, and none may be on."""

    number: int
    key: str
    why: Why
    detail: str = ""
    verdicts: tuple[Named, ...] = ()
    present_ns: int = 0
    heard_ns: int = 0


@dataclass(frozen=True, slots=True)
class Promise:
    """The part has all that it needs, ahead of time: it may pass from `from_ns` to `until_ns`, unless
    `Revoke` takes that back. A gate with a clock of its own need not wait for `Pass`."""

    number: int
    key: str
    from_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class Revoke:
    """The part may not pass after all."""

    number: int
    key: str
    why: Why


@dataclass(frozen=True, slots=True)
class Shut:
    """End the PASS signal of a part now, whatever is left of its time."""

    why: str
    key: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """A person has to know. Kinds: link, station, lost, unconfirmed, unexpected, input, log."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class LineStop:
    """Hold the line-stop output, or let it go."""

    on: bool


@dataclass(frozen=True, slots=True)
class Resync:
    """What was on the belt is rejected; parts that come from now on may be proven again."""

    source: str
    why: str


Action = Pass | Reject | Promise | Revoke | Shut | Alarm | LineStop | Resync


@dataclass(frozen=True, slots=True)
class Heard:
    """A live verdict as it was heard: when (the station's clock), why nothing may act on it (None: it
    may), and, where time proves identity, when its part was at the station's sensor."""

    source: str
    header: Header
    body: ScoreBody
    t_ns: int
    fault: Why | None = None
    expected_ns: int = 0

    @property
    def named(self) -> Named:
        return (self.source, self.header.epoch, self.header.seq)


@dataclass(slots=True, eq=False)
class Entry:
    """A part between the station's sensor and the gate. `place`: where the gate is, in ns of the clock
    or counts of the encoder."""

    number: int
    key: str
    t_ns: int
    place: int
    deadline_ns: int
    why: Why | None = None
    detail: str = ""
    acted: bool = False
    promised: bool = False
    verdicts: dict[str, Heard] = field(default_factory=dict)

    def fail(self, why: Why, detail: str = "") -> None:
        """The first reason stays."""
        if self.why is None:
            self.why, self.detail = why, detail

    @property
    def named(self) -> tuple[Named, ...]:
        return tuple(heard.named for heard in self.verdicts.values())

    @property
    def heard_ns(self) -> int:
        """When the last of its verdicts came; 0: none did."""
        return max((heard.t_ns for heard in self.verdicts.values()), default=0)


@dataclass(frozen=True, slots=True)
class Rules:
    """The gate's configuration in ns and counts.

    `travel`, `before` and `after` are in ns, or in counts with `by_counts`; the PASS signal spans
    `before` and `after` the gate, and with counts lasts `pulse_ns` at most. `by_time`: parts have no
    keys; with keys, `match_ns` asks for agreement in time besides (0: not). `confirm_ns`: 0 without a
    confirmation of rejects. `keep_proven`: a part with a key whose PASS had come keeps it when its link
    is lost. `promises`: the gate has a clock of its own and is told ahead of time.
    """

    station: str
    sources: tuple[str, ...]
    required: frozenset[str]
    travel: int
    before: int
    after: int
    deadline_ns: int
    product: str = ""
    by_counts: bool = False
    pulse_ns: int = 0
    by_time: bool = False
    match_ns: int = 0
    match_offset_ns: int = 0
    resync_parts: int = 3
    hold_ns: int = 500_000_000
    max_held: int = 256
    max_parts: int = 1024
    remember: int = 10_000
    confirm_ns: int = 0
    keep_proven: bool = False
    promises: bool = False
