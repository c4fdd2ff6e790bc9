"""ROC and principal components as SVG, in the report's style."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_ad.evaluate.components import Components
from edge_ad.evaluate.result import WorkingPoint
from edge_ad.gaussian.threshold import percent

LEFT, RIGHT, TOP, BOTTOM = 46, 24, 26, 44
VARIANCES = (0.95, 0.99, 0.999, 0.9999)
Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot: its size in px, and the range of both axes; x may be logarithmic."""

    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    log: bool = False

    def x(self, value: float) -> float:
        """Where a value lies, px; outside the range: at its edge."""
        low, high = self.x_range
        value = min(max(value, low), high)
        share = (
            math.log(value / low) / math.log(high / low) if self.log else (value - low) / (high - low)
        )
        return LEFT + share * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """As x, upwards."""
        low, high = self.y_range
        share = (min(max(value, low), high) - low) / (high - low)
        return TOP + (1 - share) * (self.height - TOP - BOTTOM)

    def draw(
        self,
        label: str,
        axes: tuple[str, str],
        x_ticks: Iterable[tuple[float, str]],
        y_ticks: Iterable[tuple[float, str]],
        content: str,
    ) -> str:
        """The whole SVG; `axes`: what is along x and y."""
        right, bottom = self.width - RIGHT, self.height - BOTTOM
        parts = [
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(label)}">'
        ]
        for value, text in x_ticks:
            at = self.x(value)
            parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{bottom}"/>')
            parts.append(_text(at, bottom + 16, text, "middle"))
        for value, text in y_ticks:
            at = self.y(value)
            parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{right}"/>')
            parts.append(_text(LEFT - 7, at + 4, text, "end"))
        parts.append(f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
        parts.append(content)
        parts.append(_text((LEFT + right) / 2, self.height - 6, axes[0], "middle"))
        parts.append(_text(LEFT - 38, TOP - 10, axes[1], "start"))
        return "".join([*parts, "</svg>"])

    def line(self, points: Sequence[tuple[float, float]], kind: str) -> str:
        """A polyline of the style sheet's class `kind`."""
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        return f'<polyline class="line {kind}" points="{path}"/>'


def roc_points(good: NDArray[Any], bad: NDArray[Any]) -> Points:
    """(false-reject rate, detection rate) at every score as the threshold, from (0, 0) to (1, 1)."""
    scores = np.unique(np.concatenate([good, bad]))[::-1]
    fpr = 1 - np.searchsorted(np.sort(good), scores, "left") / len(good)
    tpr = 1 - np.searchsorted(np.sort(bad), scores, "left") / len(bad)
    x, y = np.concatenate([[0.0], fpr]), np.concatenate([[0.0], tpr])
    # Only corners: of a straight run its ends.
    corner = np.ones(len(x), bool)
    before, after = (
        np.stack([np.diff(x)[:-1], np.diff(y)[:-1]]),
        np.stack([np.diff(x)[1:], np.diff(y)[1:]]),
    )
    corner[1:-1] = before[0] * after[1] != before[1] * after[0]
    return [(float(a), float(b)) for a, b in zip(x[corner], y[corner], strict=True)]


def roc_svgs(good: NDArray[Any], bad: NDArray[Any], points: Sequence[WorkingPoint]) -> tuple[str, str]:
    """The whole curve, and its beginning on a logarithmic axis; dots: the calibration's thresholds."""
    curve = roc_points(good, bad)
    start = 10.0 ** min(-3, math.floor(math.log10(1 / len(good))))
    decades = [10.0**i for i in range(round(math.log10(start)), 1)]
    shares = [i / 5 for i in range(6)]
    whole = Panel(450, 360, (0, 1), (0, 1))
    low = Panel(450, 360, (start, 1), (0, 1), log=True)
    # At the left edge of the logarithmic axis: what is found without any false reject.
    without = max(y for x, y in curve if x == 0)
    drawings = []
    for panel, ticks, line in (
        (whole, shares, curve),
        (low, decades, [(start, without), *[(x, y) for x, y in curve if x > 0]]),
    ):
        # Labels below and to the right of dots, clear of the curve; of dots that nearly coincide one
        # below the other.
        content = panel.line(line, "first")
        last = math.inf
        for p in sorted(points, key=lambda p: -p.detection_rate):
            x, y = panel.x(p.false_reject_rate), panel.y(p.detection_rate)
            at = y + 14 if math.isinf(last) else max(y + 14, last + 14)
            content += f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
            content += _text(x + 7, at, percent(p.target), "start", "limit-text")
            last = at
        drawings.append(
            panel.draw(
                "ROC curve",
                ("false rejects" + (", logarithmic" if panel.log else ""), "detected"),
                [(t, percent(t)) for t in ticks],
                [(t, f"{100 * t:.0f} %") for t in shares],
                content,
            )
        )
    return drawings[0], drawings[1]


def components_svg(curve: Components, lowest: float) -> str:
    """AUROC over the number of components: the first k, and the others. `lowest`: where y begins."""
    rank = curve.k[-1]
    panel = Panel(450, 250, (0.8, max(rank, 2)), (lowest, 1.0), log=True)
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if k <= rank]
    content = ""
    right = -math.inf
    for share in VARIANCES:
        at = panel.x(int(np.interp(share, curve.variance, curve.k)) or 1)
        content += f'<path class="mark" d="M{at:.1f} {TOP}V{250 - BOTTOM}"/>'
        if at > right:  # no room for a label otherwise
            content += _text(at, TOP - 6, f"{100 * share:g} %", "middle")
            right = at + 44
    for kind, values in (("first", curve.first), ("rest", curve.rest)):
        pairs = zip(curve.k, values, strict=True)
        content += panel.line([(max(k, 0.8), v) for k, v in pairs if v is not None], kind)
    step = 0.1 if lowest >= 0.4 else 0.2
    y_ticks = [round(lowest + i * step, 6) for i in range(round((1 - lowest) / step) + 1)]
    return panel.draw(
        f"Components of level {curve.level}",
        ("components", ""),
        [(k, str(k)) for k in ticks],
        [(t, f"{t:.1f}") for t in y_ticks],
        content,
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
