"""How many cores are there to compute with."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cores(root: Path = Path("/sys")) -> int:
    """Physical cores that this process may use: affinity, hyper-threads and CPU quota considered."""
    cpus = os.sched_getaffinity(0)
    siblings = set()
    for cpu in cpus:
        topology = root / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        try:
            siblings.add(topology.read_text().strip())
        except OSError:
            siblings.add(str(cpu))
    try:
        quota, period = (root / "fs/cgroup/cpu.max").read_text().split()
        limit = len(siblings) if quota == "max" else int(quota) // int(period)
    except (OSError, ValueError):
        limit = len(siblings)
    return max(1, min(len(siblings), limit))
