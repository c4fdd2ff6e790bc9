"""The smallest defect that a station finds: rendered defects of growing size in good parts' pictures,
judged by the bundle. Known-bad parts (`qualify`) are the stronger evidence; here none is needed.
"""

from __future__ import annotations

from edge_ad.resolution.request import Request
from edge_ad.resolution.result import Resolution
from edge_ad.resolution.run import measure

__all__ = ["Request", "Resolution", "measure"]
