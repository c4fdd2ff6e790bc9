"""A rendered production line, end to end: what a new user sees first, and a test of the whole.

line.py        the station: its file, its processes, its control socket
tally.py       what was published, against what was rendered and what was promised
story.py       the steps in order
screen.py      how it looks; thumbnail.py: pictures in a terminal
"""

from __future__ import annotations

from edge_ad.demo.progress import Options
from edge_ad.demo.story import run_demo
from edge_ad.demo.tally import Result

__all__ = ["Options", "Result", "run_demo"]
