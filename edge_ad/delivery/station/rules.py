"""From gate.toml to the tracker's rules."""

from __future__ import annotations

from edge_ad.config.gate import Gate
from edge_ad.delivery.station.events import Rules


def rules_of(gate: Gate) -> Rules:
    """The rules that a file asks for."""
    belt, identity = gate.belt, gate.identity
    by_counts = bool(belt.travel_counts)
    unit = 1 if by_counts else 1e6
    return Rules(
        station=gate.station,
        product=gate.product,
        sources=tuple(source.name for source in gate.source),
        required=frozenset(source.name for source in gate.source if source.required),
        travel=belt.travel_counts if by_counts else _ns(belt.travel_ms),
        before=int(belt.before * unit),
        after=int(belt.after * unit),
        by_counts=by_counts,
        pulse_ns=_ns(belt.pulse_ms),
        deadline_ns=_ns(belt.deadline_ms),
        by_time=identity.key == "time",
        match_ns=_ns(identity.match_ms or (0.0 if identity.key == "time" else identity.hold_ms)),
        match_offset_ns=_ns(identity.match_offset_ms),
        resync_parts=identity.resync_parts,
        hold_ns=_ns(identity.hold_ms),
        max_held=identity.max_held,
        max_parts=belt.max_parts,
        remember=identity.remember_keys,
        confirm_ns=_ns(gate.confirm.within_ms) if gate.confirm.what == "reject" else 0,
        keep_proven=identity.link_loss == "keep",
    )


def _ns(ms: float) -> int:
    return int(ms * 1_000_000)
