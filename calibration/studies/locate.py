"""How precisely parts are located, and how long it takes beside one `cv2.warpAffine` of the frame.

    python calibration/studies/locate.py --json runs/locate.json

Rendered parts with every kind of defect among them, up to 10 % and 15 degrees off, against the pose that
they were rendered at. Times are of one core, in turn in one run.
"""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np
from common import parser, report, table

from edge_ad.capture.defects import DEFECTS
from edge_ad.capture.parts import part_placement, plate
from edge_ad.locate import Locator, Settings
from edge_ad.locate.pose import matrix


def measure(width: int, height: int, parts: int, shift: float, angle: float) -> dict[str, Any]:
    """One row: a frame size."""
    cv2.setNumThreads(1)
    part = plate(1, width, height)
    reference = part.render(0, "")
    locator = Locator(reference, Settings(max_shift=shift + 0.015, max_angle=angle + 2))
    back = np.linalg.inv(np.vstack([part.placed(0), [0, 0, 1]]))
    out = np.empty_like(reference)
    pixels, degrees, find_ms, warp_ms, lost = [], [], [], [], 0
    for index in range(1, parts + 1):
        placement = part_placement(1, index, width, height, shift, angle)
        image = part.render(index, ("", *DEFECTS)[index % 5], placement)
        start = time.perf_counter()
        pose = locator.find(image).pose
        find_ms.append(1e3 * (time.perf_counter() - start))
        if pose is None:
            lost += 1
            continue
        start = time.perf_counter()
        cv2.warpAffine(image, matrix(pose, locator.middle), (width, height), dst=out)
        warp_ms.append(1e3 * (time.perf_counter() - start))
        whole = np.vstack([part.placed(index, placement), [0, 0, 1]]) @ back
        moved = whole[:2, :2] @ locator.middle + whole[:2, 2] - locator.middle
        pixels.append(float(np.hypot(*(moved - (pose.dx, pose.dy)))))
        turned = float(np.degrees(np.arctan2(whole[0, 1], whole[0, 0])))
        degrees.append(abs(turned - pose.angle))
    find, warp = float(np.median(find_ms)), float(np.median(warp_ms))
    return {
        "frame": f"{width} x {height}",
        "parts": parts,
        "not_found": lost,
        "px_median": float(np.median(pixels)),
        "px_95": float(np.quantile(pixels, 0.95)),
        "px_worst": max(pixels),
        "degrees_median": float(np.median(degrees)),
        "degrees_worst": max(degrees),
        "find_ms": find,
        "warp_ms": warp,
        "ratio": find / warp,
    }


def main() -> None:
    made = parser(__doc__ or "", dataset=False)
    made.add_argument("--parts", type=int, default=200)
    made.add_argument("--shift", type=float, default=0.1)
    made.add_argument("--angle", type=float, default=15.0)
    args = made.parse_args()
    sizes = ((640, 480), (1920, 1200), (2448, 2048))
    rows = [measure(*size, args.parts, args.shift, args.angle) for size in sizes]
    report(args, {"sizes": rows}, table(list(rows[0]), [list(row.values()) for row in rows]))


if __name__ == "__main__":
    main()
