"""Numbers of an evaluation as text, the same in the terminal and on the page."""

from __future__ import annotations

from edge_ad.evaluate.metrics import Interval
from edge_ad.gaussian.threshold import percent


def number(value: float | None) -> str:
    """An AUROC or AUPRO; a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def span(interval: Interval) -> str:
    """An interval of an AUROC."""
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def percents(interval: Interval) -> str:
    """An interval of a rate: "0.2 to 3.6 %"."""
    return f"{percent(interval[0]).removesuffix(' %')} to {percent(interval[1])}"


def rate_with(rate: float, interval: Interval) -> str:
    """A rate and its interval in one cell: "39.1 % (30.2 to 48.7)"."""
    return f"{percent(rate)} ({percents(interval).removesuffix(' %')})"
