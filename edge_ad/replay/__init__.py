"""Archived parts through a bundle once more: which verdicts change, and what a verdict saw.

The frames of the evidence are lossless, so that the bundle which judged a part gives the same score
again.
"""

from __future__ import annotations

from edge_ad.replay.overlay import draw_entry, kept_overlay
from edge_ad.replay.run import Changed, Result, Skipped, replay

__all__ = ["Changed", "Result", "Skipped", "draw_entry", "kept_overlay", "replay"]
