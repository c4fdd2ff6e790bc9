"""How many bad parts escape: known-bad parts through the bundle's own inspector, and one part again and
again. The result is stored with the bundle.
"""

from __future__ import annotations

from edge_ad.qualify.result import Request, Result
from edge_ad.qualify.run import qualify

__all__ = ["Request", "Result", "qualify"]
