"""What delivering a verdict costs: from trigger to verdict on the wire, and on to the gate.

line.py      the line's files and processes: `edge-ad run` and `edge-ad station`
alone.py     the inspector in a process of its own
quiet.py     trigger to verdict, in turn with the inspector alone, the bare engine and bare commits
loaded.py    parts at a steady pace to the gate, with scrapes, evidence and bursts of rejects
result.py    the figures
run.py       both, one after the other
"""

from __future__ import annotations

from edge_ad.bench.delivery.result import DeliveryResult, Loaded, Quiet, Spread
from edge_ad.bench.delivery.run import DeliveryOptions, run_delivery_bench

__all__ = ["DeliveryOptions", "DeliveryResult", "Loaded", "Quiet", "Spread", "run_delivery_bench"]
