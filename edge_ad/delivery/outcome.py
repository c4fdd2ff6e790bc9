"""A judged part as the daemon hands it on, and as the two messages that are published and archived."""

from __future__ import annotations

from dataclasses import dataclass

from edge_ad.delivery.wire import VERSION, FindingBody, Header, PoseBody, ScoreBody
from edge_ad.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Outcome:
    """A judged part without its pictures. Stages in ns: queue, locate, preprocess, engine,
    verdict."""

    seq: int
    part: str
    t_trigger_ns: int
    t_wall_ns: int
    t_verdict_ns: int
    verdict: Verdict
    product: str
    bundle: str
    rejects: int  # parts of this epoch that did not pass, this one included
    stages_ns: tuple[int, int, int, int, int]
    cameras: tuple[str, ...] = ()  # of the bundle, in the order of the verdict's poses
    engine: str = ""  # of the bundle's section
    degraded: bool = False  # it stands in for the station's engine, which failed
    asked: bool = False  # about this part, also where it failed; else the part is FAULT without it
    trigger: str = "free"
    count: int | None = None
    encoder: int | None = None
    advisory: bool = False
    line_stop: bool = False
    challenge: bool = False  # a known part, which proves that the line rejects what is bad


def _poses(verdict: Verdict) -> list[PoseBody | None] | None:
    """As they go over the wire; None where no camera looks for its part."""
    if not any(verdict.poses):
        return None
    return [
        None if p is None else PoseBody(p.dx, p.dy, p.angle, p.scale, p.quality) for p in verdict.poses
    ]


def _findings(verdict: Verdict) -> list[FindingBody] | None:
    if not verdict.findings:
        return None
    return [
        FindingBody(f.zone, f.view, f.x, f.y, f.area, f.peak, f.mm, f.area_mm2, f.allowed)
        for f in verdict.findings
    ]


def messages(outcome: Outcome, station: str, epoch: str) -> tuple[Header, ScoreBody]:
    """What is said of the part, and of which part."""
    verdict = outcome.verdict
    header = Header(
        VERSION,
        station,
        epoch,
        outcome.seq,
        outcome.part,
        outcome.t_trigger_ns,
        outcome.t_wall_ns,
        outcome.product,
        outcome.bundle,
        outcome.trigger,
        outcome.count,
        outcome.encoder,
        outcome.advisory,
    )
    body = ScoreBody(
        verdict.decision.value,
        verdict.reason.value,
        verdict.score,
        verdict.threshold,
        verdict.view,
        (outcome.t_verdict_ns - outcome.t_trigger_ns) / 1e6,
        outcome.rejects,
        None if verdict.distances is None else verdict.distances.tolist(),
        verdict.detail,
        verdict.box,
        _poses(verdict),
        _findings(verdict),
        outcome.engine,
        outcome.degraded,
        outcome.line_stop,
        outcome.challenge,
    )
    return header, body
