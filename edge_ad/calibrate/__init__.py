"""Good parts in, an active bundle out: collect, screen, fit, set the threshold, report, activate.

`calibrate` runs in the caller's process and does nothing heavy there: pictures are read and Gaussians
are fitted in a low-priority child (`worker`), so that a running daemon keeps its cores. Nothing of the
bundle in use changes before the new one is complete on disk.
"""

from __future__ import annotations

from edge_ad.calibrate.progress import Progress, open_progress
from edge_ad.calibrate.request import Request
from edge_ad.calibrate.run import Result, calibrate

__all__ = ["Progress", "Request", "Result", "calibrate", "open_progress"]
