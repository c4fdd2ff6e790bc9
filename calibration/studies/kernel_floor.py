"""Bytes of a frame on a GPU, its Gaussians' and those before them, and the least time that they take.

    python calibration/studies/kernel_floor.py

Prints the tables of RESULTS.md. Computed from the launch plans; nothing is measured.
"""

from __future__ import annotations

from edge_ad.gaussian.cuda import floor as gaussian
from edge_ad.preprocess.cuda import floor as preprocess


def main() -> None:
    """Print the tables."""
    print("\n".join([*gaussian.table(), "", *preprocess.table()]))


if __name__ == "__main__":
    main()
