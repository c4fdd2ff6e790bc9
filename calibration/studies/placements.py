"""Parts that lie about: what it costs, and what locating them gives back.

    python calibration/studies/placements.py --json runs/placements.json

Rendered parts lie up to a share of the frame and some degrees off, either way. The product calibrates on
them, with and without [camera.locate], and judges new good ones and defective ones (scratches, dents,
stains, missing holes). A part that is not judged counts as rejected, good or not. Detection is at the
threshold that 1 % of the new good parts exceed, and by the bundle's own.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import parser, report, table

from edge_ad.bundle import open_bundle
from edge_ad.calibrate import Request, calibrate
from edge_ad.capture.defects import DEFECTS
from edge_ad.capture.parts import part_placement, plate
from edge_ad.config import load_station
from edge_ad.evaluate.metrics import auroc, lowest_threshold
from edge_ad.frame import Image
from edge_ad.inspector import Inspector, open_inspector

STATION = """schema = 1
station = "study"
[[camera]]
name = "top"
uri = "folder://{good}"
frame_size = "fixed"
{locate}
[engine]
backbone = "{backbone}"
"""
NEW, BAD = 1_000_000, 2_000_000  # numbers of the first new good and of the first defective part


def rendered(args: argparse.Namespace, index: int, shift: float, angle: float, defect: str) -> Image:
    placement = part_placement(1, index, args.width, args.height, shift, angle)
    return plate(1, args.width, args.height).render(index, defect, placement)


def scores(inspector: Inspector, images: list[Image]) -> np.ndarray:
    """Infinite for a part that is not judged."""
    found = np.array([inspector.inspect(image).score for image in images])
    return np.where(np.isfinite(found), found, np.inf)


def measure(args: argparse.Namespace, shift: float, angle: float, locate: bool) -> dict[str, Any]:
    """One row of the table."""
    with tempfile.TemporaryDirectory(dir=args.scratch) as directory:
        good = Path(directory) / "good"
        good.mkdir()
        for i in range(args.parts):
            cv2.imwrite(str(good / f"{i:05d}.png"), rendered(args, i, shift, angle, ""))
        # What was asked for, the little that every rendered part is off by, and what the reference,
        # which is one of them, is off by.
        reach = f"max_shift = {1.3 * shift + 0.03}\nmax_angle = {1.3 * angle + 3}\n"
        # The whole frame, as without: what a part takes out of it is not seen, but the rest is judged.
        view = f'[[view]]\nname = "top"\ncamera = "top"\nroi = [0, 0, {args.width}, {args.height}]\n'
        bounds = f"[camera.locate]\n{reach}max_outside = 0.5\n{view}"
        line = Path(directory) / "line.toml"
        line.write_text(
            STATION.format(good=good, locate=bounds if locate else "", backbone=args.backbone or "")
        )
        result = calibrate(load_station(line), Request(directory=good))
        bundle = open_bundle(result.path)
        inspector = open_inspector(bundle)
        fine = scores(inspector, [rendered(args, NEW + i, shift, angle, "") for i in range(args.good)])
        kinds = {
            kind: scores(
                inspector,
                [rendered(args, BAD + 1000 * k + i, shift, angle, kind) for i in range(args.each)],
            )
            for k, kind in enumerate(DEFECTS)
        }
        threshold = bundle.section(result.key).threshold
    bad = np.concatenate(list(kinds.values()))
    limit = lowest_threshold(fine, 0.01)
    return {
        "shift": f"{100 * shift:g} %",
        "angle": angle,
        "locate": "yes" if locate else "no",
        "auroc": auroc(np.minimum(fine, 1e9), np.minimum(bad, 1e9)),
        "detected": float((bad > limit).mean()),
        **{f"detected_{kind}": float((found > limit).mean()) for kind, found in kinds.items()},
        "by_promise": float((bad > threshold).mean()),
        "rejected": float((fine > threshold).mean()),
        "promised": bundle.section(result.key).promise.expected,
        "not_judged": float(np.isinf(fine).mean()),
    }


def main() -> None:
    made = parser(__doc__ or "", dataset=False)
    made.add_argument("--parts", type=int, default=120, help="calibrated on")
    made.add_argument("--good", type=int, default=300, help="new ones")
    made.add_argument("--each", type=int, default=50, help="defective ones of each kind")
    made.add_argument("--shifts", type=float, nargs="+", default=[0, 0.02, 0.05, 0.1])
    made.add_argument("--angles", type=float, nargs="+", default=[0, 5, 15])
    made.add_argument("--width", type=int, default=640)
    made.add_argument("--height", type=int, default=480)
    made.add_argument("--backbone", type=Path, help="default: the one that comes with the package")
    made.add_argument("--scratch", type=Path)
    args = made.parse_args()
    rows = []
    for shift in args.shifts:
        for angle in args.angles:
            for locate in (False, True):
                rows.append(measure(args, shift, angle, locate))
                print(rows[-1], flush=True)
    columns = ["shift", "angle", "locate", "auroc", "detected", *(f"detected_{k}" for k in DEFECTS)]
    columns += ["by_promise", "rejected", "promised", "not_judged"]
    report(args, {"placements": rows}, table(columns, [[row[c] for c in columns] for row in rows]))


if __name__ == "__main__":
    main()
