"""What a consumer of the verdict channel is told."""

from __future__ import annotations

from dataclasses import dataclass

from edge_ad.delivery.wire import Header, ScoreBody


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The daemon has answered, in this epoch. Its monotonic clock is the consumer's plus `offset_ns`,
    known to within `uncertainty_ns`."""

    station: str
    product: str
    epoch: str
    offset_ns: int
    uncertainty_ns: int


@dataclass(frozen=True, slots=True)
class LinkDown:
    """Nothing is heard of the daemon, and why; it is looked for until it is back."""

    why: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """A verdict, in order and once. `live`: it was given just now; else it is told again, for the record
    only."""

    header: Header
    body: ScoreBody
    live: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """Verdicts of an epoch that the daemon no longer has, first to last."""

    epoch: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The daemon does not talk to this consumer, in words: another took its name, unknown, version."""

    why: str


Event = LinkUp | LinkDown | Delivered | Lost | Refused
