"""The daemon: capture, inspection and publishing in threads of their own, and what holds them together.

    capture-<camera>   reads frames into a bounded queue               cameras.py, parts.py
    inspect            takes parts, judges them, hands verdicts over   inspection.py
    publish            encodes, sends, counts, journals                publishing.py
    evidence           pictures of parts, to disk                      evidence/writer.py
    scores             every part's score, to disk                     evidence/score_keeper.py
    verdicts, control, trigger                                         channels.py
    reload, metrics, collect, and the main thread                      service.py, collecting.py

The inspection thread waits for parts and for nothing else: no consumer, disk, log or metric.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_ad.daemon.service import Daemon

__all__ = ["Daemon"]


def __getattr__(name: str) -> Any:
    """Import the service on use: a bundle may be loaded before and beside it."""
    if name != "Daemon":
        raise AttributeError(f"module 'edge_ad.daemon' has no attribute {name!r}")
    from edge_ad.daemon.service import Daemon

    return Daemon
