"""A histogram of scores with its threshold as an SVG picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 920, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 18, 40, 46
MAX_BINS = 48
OUT_OF_SAMPLE = "score (each part by Gaussians fitted without it)"


def histogram_svg(
    scores: Sequence[float],
    threshold: float,
    label: str = OUT_OF_SAMPLE,
    colours: tuple[str, str] = ("pass", "reject"),
    reach: Sequence[float] = (),
) -> str:
    """Counts of scores per bin; `colours`: the style sheet's classes up to and above the threshold;
    `reach`: other scores that the axis has room for, so that two histograms stand on one axis."""
    values = np.asarray(scores, np.float64)
    low, high, step = _range(np.concatenate([values, np.asarray(reach, np.float64)]), threshold)
    bins = round((high - low) / step)
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    top, tick = _ceiling(int(counts.max()))

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(count: float) -> float:
        return TOP + (1 - count / top) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Histogram: {escape(label)}">']
    for count in range(0, top + 1, tick):
        parts.append(f'<path class="grid" d="M{LEFT} {y(count):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 8}" y="{y(count) + 4:.1f}" text-anchor="end">{count}</text>'
        )
    below, _ = np.histogram(values[values <= threshold], bins=edges)
    for passed, inside, a, b in zip(below, counts, edges[:-1], edges[1:], strict=True):
        for side, number, start, end in _sides(int(passed), int(inside), float(a), float(b), threshold):
            if number:
                parts.append(
                    f'<rect class="{colours[side]}" x="{x(start) + 0.5:.1f}" '
                    f'width="{max(x(end) - x(start) - 1, 0.5):.1f}" '
                    f'y="{y(number):.1f}" height="{y(0) - y(number):.1f}"/>'
                )
    parts += _x_axis(low, high, x, label)
    at = x(threshold)
    anchor, shift = ("end", -8) if at > WIDTH * 0.7 else ("start", 8)
    parts.append(
        f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 14}" y2="{HEIGHT - BOTTOM}"/>'
    )
    parts.append(
        f'<text class="limit-text" x="{at + shift:.1f}" y="{TOP - 18}" text-anchor="{anchor}">'
        f"threshold {threshold:.5g}</text>"
    )
    parts.append("</svg>")
    return "".join(parts)


def _sides(
    passed: int, count: int, a: float, b: float, threshold: float
) -> list[tuple[int, int, float, float]]:
    """A bar per colour; the bin that the threshold lies in is shared between the two."""
    middle = min(max(threshold, a), b)
    if passed == count:
        return [(0, count, a, middle if middle > a else b)]
    if not passed:
        return [(1, count, middle if middle < b else a, b)]
    return [(0, passed, a, middle), (1, count - passed, middle, b)]


def _range(values: NDArray[np.float64], threshold: float) -> tuple[float, float, float]:
    """Bounds that hold everything, and a round bin width."""
    low, high = float(min(values.min(), threshold)), float(max(values.max(), threshold))
    spread = (high - low) or abs(high) or 1.0
    wanted = int(min(MAX_BINS, max(10, 2 * math.sqrt(len(values)))))
    step = _round_step(spread / wanted)
    return math.floor(low / step - 0.5) * step, math.ceil(high / step + 0.5) * step, step


def _round_step(step: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def _ceiling(most: int) -> tuple[int, int]:
    """Top of the axis and distance of its ticks."""
    tick = max(1, round(_round_step(max(most, 1) / 4)))
    return tick * math.ceil(max(most, 1) / tick), tick


def _x_axis(low: float, high: float, x: Callable[[float], float], label: str) -> list[str]:
    step = _round_step((high - low) / 9)
    base = HEIGHT - BOTTOM
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>']
    value = math.ceil(low / step) * step
    while value <= high + 1e-9 * step:
        parts.append(
            f'<text class="tick" x="{x(value):.1f}" y="{base + 18}" text-anchor="middle">'
            f"{value:.6g}</text>"
        )
        value += step
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="label" x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(label)}</text>"
        f'<text class="label" x="14" y="{TOP - 18}">parts</text>'
    )
    return parts
