"""Detection rates with their exact bounds, and how far repeated scores lie from the threshold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from edge_ad.bundle.qualification import BadPart, Detected, Repeatability, Repeated
from edge_ad.gaussian.threshold import CONFIDENCE, beta_quantile


def lower_bound(count: int, n: int) -> float:
    """The exact one-sided 95 % lower bound of a rate of which `count` in n were seen (Clopper and
    Pearson, 1934): 0.99 for 299 of 299."""
    return 1.0 - beta_quantile(CONFIDENCE, n - count + 1, count) if count else 0.0


def detected(parts: Sequence[BadPart]) -> Detected:
    """Rates of at least one known-bad part. A FAULT counts as a part that was not detected."""
    verdicts = Counter(part.verdict for part in parts)
    margins = [part.margin for part in parts if part.margin is not None]
    n, found = len(parts), verdicts["REJECT"]
    return Detected(
        parts=n,
        detected=found,
        missed=verdicts["PASS"],
        faults=verdicts["FAULT"],
        rate=found / n,
        confident=lower_bound(found, n),
        smallest_margin=min(margins, default=None),
    )


def by_kind(parts: Iterable[BadPart]) -> dict[str, Detected]:
    """`detected` of every kind of defect, sorted by name."""
    groups: dict[str, list[BadPart]] = {}
    for part in parts:
        groups.setdefault(part.kind, []).append(part)
    return {kind: detected(groups[kind]) for kind in sorted(groups)}


def sorted_by_margin(parts: Iterable[BadPart]) -> list[BadPart]:
    """Smallest margin first; parts without a score last."""
    return sorted(parts, key=lambda part: (part.margin is None, part.margin, part.source))


def kinds_below(kinds: Mapping[str, Detected], rate: float) -> list[str]:
    """The kinds whose measured detection rate is less than `rate`."""
    return [kind for kind, one in kinds.items() if one.detected < rate * one.parts - 1e-9]


def repeated(part: str, scores: Sequence[float], verdicts: Sequence[str], threshold: float) -> Repeated:
    """One part from the scores (at least 2) and verdicts of all its pictures; those without a score are
    among the verdicts only."""
    values = np.asarray(scores, np.float64)
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    (_, most), *_ = Counter(verdicts).most_common(1)
    return Repeated(
        part=part,
        pictures=len(verdicts),
        mean=mean,
        sd=sd,
        low=float(values.min()),
        high=float(values.max()),
        distance=(mean - threshold) / sd if sd > 0 else None,
        differ=len(verdicts) - most,
        faults=len(verdicts) - len(values),
    )


def repeatability(parts: Sequence[Repeated]) -> Repeatability:
    """All repeated parts, at least one: standard deviation pooled over parts, sum of squares over sum of
    degrees of freedom."""
    freedom = [part.pictures - part.faults - 1 for part in parts]
    squares = sum(f * part.sd**2 for f, part in zip(freedom, parts, strict=True))
    distances = [abs(part.distance) for part in parts if part.distance is not None]
    return Repeatability(
        parts=list(parts),
        pictures=sum(part.pictures for part in parts),
        sd=math.sqrt(squares / sum(freedom)),
        nearest=min(distances, default=None),
        differ=sum(part.differ for part in parts),
        parts_differ=sum(part.differ > 0 for part in parts),
    )
