"""How many bad parts escape: known-bad parts through the bundle's own inspector, and one part again and
again. The result is stored with the bundle.
"""

from __future__ import annotations

from edge_ad.qualify.run import Request, Result, qualify

__all__ = ["Request", "Result", "qualify"]
