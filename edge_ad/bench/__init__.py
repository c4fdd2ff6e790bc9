"""How much the whole path costs beside the engine alone, measured inside the running daemon.

trial.py    a station on rendered parts, with a bundle fitted on those very parts
timing.py   the daemon's inspection loop with a stopwatch, interleaved with the bare engine
load.py     a consumer of scores and metrics, as a process of its own
run.py      the runs and their result
"""

from __future__ import annotations

from edge_ad.bench.run import Options, Result, Run, run_bench

__all__ = ["Options", "Result", "Run", "run_bench"]
