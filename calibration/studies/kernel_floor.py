"""Operations and bytes of a frame's Gaussians on a GPU, and the least time that reading them takes.

    python calibration/studies/kernel_floor.py

Prints the table of RESULTS.md. Computed from the launch plans; nothing is measured.
"""

from __future__ import annotations

from edge_ad.gaussian.cuda.floor import table


def main() -> None:
    """Print the table."""
    print("\n".join(table()))


if __name__ == "__main__":
    main()
