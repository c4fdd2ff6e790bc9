"""report.html: one page about a calibration, for the engineer who signs for it.

Self-contained: styles, histogram and pictures are inline, there is no script and nothing is fetched.
"""

from __future__ import annotations

from edge_ad.report.page import render_report

__all__ = ["render_report"]
