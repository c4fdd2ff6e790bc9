"""A process aside for the tests: what it is asked, it does."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_ad.aside import begin, serve

Asked = dict[str, NDArray[np.float32]]
Said = tuple[str, Asked]


def answer(arrays: Asked) -> Said:
    """The arrays, in the order of their names, one more each; what the process says of itself."""
    if "fail" in arrays:
        raise RuntimeError("it was to fail")
    if "sleep" in arrays:
        time.sleep(float(arrays["sleep"][0]))
    os.write(1, b"not for the daemon\n")
    adjust = Path("/proc/self/oom_score_adj").read_text().strip()
    for array in arrays.values():
        array += 1
    return f"{os.sched_getscheduler(0)} {os.nice(0)} {adjust}", dict(sorted(arrays.items()))


if __name__ == "__main__":
    pipes = begin(*map(int, sys.argv[1:]))
    print("nor is this")  # noqa: T201 - as what is imported may do
    serve(pipes, Asked, answer)
