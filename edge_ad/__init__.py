"""Streaming anomaly inspection for production lines: good parts in, verdicts out.

    import edge_ad
    inspector = edge_ad.load("bundles/current")
    verdict = inspector.inspect(image)   # uint8 HxWx3 BGR or HxW grey -> Verdict

Importing the package loads only the standard library; the names below are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_ad.inspector import Inspector, load
    from edge_ad.verdict import Decision, Reason, Verdict

__version__ = "0.1.0"
__all__ = ["Decision", "Inspector", "Reason", "Verdict", "__version__", "load"]

_HOMES = {
    "Inspector": "edge_ad.inspector",
    "load": "edge_ad.inspector",
    "Decision": "edge_ad.verdict",
    "Reason": "edge_ad.verdict",
    "Verdict": "edge_ad.verdict",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edge_ad' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
