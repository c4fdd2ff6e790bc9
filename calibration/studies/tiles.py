"""What tiles are worth: small defects in rendered frames of 5 megapixels, one view against many tiles.

    python calibration/studies/tiles.py --json runs/tiles.json

Good parts are rendered, calibrated on by the product itself with each tiling in turn (in a process of
its own, whose largest memory is noted), and new ones are judged as the daemon would, plain and with a
defect inserted at a random place of the part. Detection is at the threshold that 1 % of the new good
parts exceed ("at 1 %"), and at the bundle's own ("by promise").
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import parser, report, table

from edge_ad.bundle import open_bundle
from edge_ad.calibrate import Request, calibrate
from edge_ad.capture.insertion import KINDS, draw, insert, white
from edge_ad.capture.parts import Plate, plate
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
[[view]]
name = "top"
camera = "top"
tiles = [{tiles[0]}, {tiles[1]}]
overlap = {overlap}
[engine]
backbone = "{backbone}"
"""
NEW = 1_000_000  # number of the first part that nothing was calibrated on


def defective(part: Plate, image: Image, kind: str, size: float, contrast: float, seed: int) -> Image:
    """A copy with one defect somewhere on the plate."""
    rng = np.random.default_rng((seed, 7))
    relief = draw(kind, rng, size, min(part.width, part.height))
    reach = np.array(relief.shape[::-1])
    low, high = part.center - part.half, part.center + part.half - reach
    x, y = rng.uniform(low, high).astype(int)
    return insert(image, relief, int(x), int(y), contrast * white(image))


def judge(args: argparse.Namespace, inspector: Inspector) -> dict[str, Any]:
    """Scores of new good parts, and of the same with defects."""
    part = plate(1, args.width, args.height)
    good, bad = [], {f"{kind} {size:g} px": [] for kind in KINDS for size in args.sizes}
    seconds = []
    for number in range(args.good):
        image = part.render(NEW + number, "")
        start = time.perf_counter()
        good.append(inspector.inspect(image).score)
        seconds.append(time.perf_counter() - start)
        if number >= args.each:
            continue
        for kind in KINDS:
            for size in args.sizes:
                spoilt = defective(part, image, kind, size, args.contrast, number)
                bad[f"{kind} {size:g} px"].append(inspector.inspect(spoilt).score)
    return {"good": good, "bad": bad, "ms": 1e3 * float(np.median(seconds))}


def one_tiling(args: argparse.Namespace) -> dict[str, Any]:
    """Calibrate and judge with args.tiles; run in a process of its own."""
    with tempfile.TemporaryDirectory(dir=args.scratch) as directory:
        line = Path(directory) / "line.toml"
        line.write_text(
            STATION.format(
                good=args.parts_in, tiles=args.tiles, overlap=args.overlap, backbone=args.backbone or ""
            )
        )
        start = time.monotonic()
        result = calibrate(load_station(line), Request(directory=args.parts_in))
        seconds = time.monotonic() - start
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        bundle = open_bundle(result.path)
        inspector = open_inspector(bundle)
        inspector.warm_up()
        section = bundle.section(result.key)
        return {
            **judge(args, inspector),
            "threshold": section.threshold,
            "promised": section.promise.expected,
            "calibration_s": seconds,
            "calibration_mb": memory,
            "bundle_mb": sum(f.stat().st_size for f in result.path.rglob("*") if f.is_file()) / 1e6,
        }


def summary(name: str, found: dict[str, Any], sizes: list[float]) -> dict[str, Any]:
    """The row of a tiling."""
    good = np.array(found["good"])
    limit = lowest_threshold(good, 0.01)
    row: dict[str, Any] = {"tiles": name}
    for size in sizes:
        scores = np.concatenate([found["bad"][f"{kind} {size:g} px"] for kind in KINDS])
        row[f"auroc_{size:g}"] = auroc(good, scores)
        row[f"at_1_{size:g}"] = float((scores > limit).mean())
        row[f"promise_{size:g}"] = float((scores > found["threshold"]).mean())
        for kind in KINDS:
            of_kind = np.array(found["bad"][f"{kind} {size:g} px"])
            row[f"at_1_{kind}_{size:g}"] = float((of_kind > limit).mean())
    keys = ("promised", "ms", "calibration_s", "calibration_mb", "bundle_mb")
    rejected = float((good > found["threshold"]).mean())
    return {**row, "rejected": rejected, **{key: found[key] for key in keys}}


def render(args: argparse.Namespace, directory: Path) -> None:
    """The good parts that are calibrated on."""
    part = plate(1, args.width, args.height)
    for number in range(args.parts):
        cv2.imwrite(str(directory / f"{number:05d}.png"), part.render(number, ""))


def tilings(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each tiling's numbers, by a process of its own, so that its memory is its own."""
    with tempfile.TemporaryDirectory(dir=args.scratch) as good:
        render(args, Path(good))
        for name in args.tilings:
            command = [*sys.argv, "--one", name, "--parts-in", good]
            done = subprocess.run(
                [sys.executable, *command], capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(done.stderr)
            yield name, json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    made = parser(__doc__ or "", dataset=False)
    made.add_argument("--parts", type=int, default=150, help="calibrated on")
    made.add_argument("--good", type=int, default=200, help="new ones")
    made.add_argument("--each", type=int, default=40, help="defects of each kind and size")
    made.add_argument("--sizes", type=float, nargs="+", default=[3, 6, 12], help="camera pixels")
    made.add_argument("--contrast", type=float, default=0.3, help="share of the picture's white")
    made.add_argument("--width", type=int, default=2448)
    made.add_argument("--height", type=int, default=2048)
    made.add_argument("--tilings", nargs="+", default=["1x1", "4x6", "8x10"], help="rows x columns")
    made.add_argument("--overlap", type=int, default=16)
    made.add_argument("--backbone", type=Path, help="default: the one that comes with the package")
    made.add_argument("--scratch", type=Path, help="where some gigabytes may lie")
    made.add_argument("--one", help=argparse.SUPPRESS)
    made.add_argument("--parts-in", type=Path, help=argparse.SUPPRESS)
    args = made.parse_args()
    if args.one:
        args.tiles = tuple(map(int, args.one.split("x")))
        args.overlap = args.overlap if args.tiles != (1, 1) else 0
        print(json.dumps(one_tiling(args)))
        return
    rows = []
    for name, found in tilings(args):
        rows.append(summary(name, found, args.sizes))
        print(rows[-1], flush=True)
    columns = ["tiles", *(f"at_1_{s:g}" for s in args.sizes), *(f"auroc_{s:g}" for s in args.sizes)]
    columns += ["rejected", "promised", "ms", "calibration_s", "calibration_mb", "bundle_mb"]
    report(args, {"tilings": rows}, table(columns, [[row[c] for c in columns] for row in rows]))


if __name__ == "__main__":
    main()
