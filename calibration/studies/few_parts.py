"""What few good parts are worth: AUROC, detection and the promise, for 10 parts and up.

    python calibration/studies/few_parts.py DATASET --split odd --cache runs/cache \\
        --json runs/few.json --svg calibration/few_parts.svg

Seeded subsets of train/good are fitted, each size several times (fewer of the large ones). AUROC
and detection are of test/good against the chosen half of the defects; "at 1 %" is at the threshold
that 1 % of test/good exceed, "by promise" at the threshold that each fit set for 1 %, or where it
has too few parts for that, at its highest score. False rejects are counted on all good parts that
were not fitted, as a multiple of what the fit stated.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import Parts, judged, load_parts, parser, report, scores, share, table

from edge_ad.evaluate.plots import Panel
from edge_ad.gaussian.threshold import conformal
from edge_ad.gaussian.view import fit_view
from edge_ad.report.style import CSS

REPEATS = {10: 20, 20: 20, 50: 12, 100: 8, 300: 4}
HELD_OUT = 400  # good parts besides test/good that false rejects are counted on, at most
LINES = {"default": "first", "paper": "rest"}


def one_fit(parts: Parts, profile: str, n: int, seed: int) -> dict[str, float]:
    """The numbers of one subset of n parts."""
    order = np.random.default_rng((n, seed)).permutation(len(parts.train))
    fit = fit_view(parts.train.take(order[:n]), parts.settings(profile))
    test, bad = scores(fit, parts.test), scores(fit, parts.defects)
    rest = order[n : n + HELD_OUT]
    good = np.concatenate([test, scores(fit, parts.train.take(rest))]) if len(rest) else test
    found = judged(fit, test, bad)
    for rate in (0.05, 0.01):
        threshold, promise = conformal(fit.outside, rate, fit.method)
        found[f"kept_{100 * rate:g}"] = share(good, threshold) / promise.expected
    return found


def measure(parts: Parts, profile: str, sizes: dict[int, int]) -> list[dict[str, Any]]:
    """One row per size: means over subsets and their standard errors."""
    rows = []
    for n, repeats in sizes.items():
        found = [one_fit(parts, profile, n, seed) for seed in range(repeats)]
        row: dict[str, Any] = {"profile": profile, "parts": n, "subsets": repeats}
        for key in found[0]:
            values = np.array([one[key] for one in found])
            row[key] = float(values.mean())
            row[f"{key}_error"] = float(values.std(ddof=1) / np.sqrt(repeats)) if repeats > 1 else 0.0
        print(profile, n, {key: round(row[key], 4) for key in found[0]}, flush=True)
        rows.append(row)
    return rows


def picture(rows: list[dict[str, Any]], style: str = CSS) -> str:
    """Three plots side by side as one SVG that stands alone."""
    plots = (
        ("image AUROC", "auroc", (0.65, 1.0), 0.05),
        ("detected at 1 % false rejects", "detected_at_1", (0.0, 1.0), 0.2),
        ("false rejects / promise (1 %)", "kept_1", (0.0, 2.0), 0.5),
    )
    sizes = sorted({row["parts"] for row in rows})
    content = ""
    for i, (title, key, bounds, step) in enumerate(plots):
        panel = Panel(330, 280, (sizes[0], sizes[-1]), bounds, log=True)
        lines = ""
        for profile, kind in LINES.items():
            chosen = [row for row in rows if row["profile"] == profile]
            lines += panel.line([(row["parts"], row[key]) for row in chosen], kind)
            for row in chosen:
                spread = [max(bounds[0], row[key] + side * 2 * row[f"{key}_error"]) for side in (-1, 1)]
                lines += panel.line([(row["parts"], min(bounds[1], value)) for value in spread], kind)
        ticks = np.arange(bounds[0], bounds[1] + step / 2, step).round(6).tolist()
        drawn = panel.draw(
            title,
            ("good parts", title),
            [(n, str(n)) for n in sizes],
            [(t, f"{t:g}") for t in ticks],
            lines,
        )
        content += drawn.replace("<svg ", f'<svg x="{340 * i}" width="330" height="280" ', 1)
    key_text = "".join(
        f'<polyline class="line {kind}" points="{x},300 {x + 26},300"/>'
        f'<text x="{x + 32}" y="304">{name}</text>'
        for x, (name, kind) in zip((46, 146), LINES.items(), strict=True)
    )
    sheet = f"<style>{style} svg {{ font: 12px sans-serif }}</style>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1020 316" role="img" '
        f'aria-label="Few parts">{sheet}<rect width="1020" height="316" fill="#fff"/>'
        f"{content}{key_text}</svg>\n"
    )


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--svg", type=Path, metavar="FILE", help="draw the plot there")
    made.add_argument("--sizes", type=int, nargs="+", default=list(REPEATS))
    made.add_argument("--repeats", type=int, default=0, help="of each size (0: 20 of 10, 4 of 300)")
    made.add_argument("--profiles", nargs="+", default=list(LINES), choices=list(LINES))
    args = made.parse_args()
    parts = load_parts(args)
    rows = study(parts, args)
    if args.svg is not None:
        args.svg.write_text(picture(rows), encoding="utf-8")
    keys = ("auroc", "detected_at_1", "detected_1", "expected_1", "kept_1", "kept_5")
    names = ("AUROC", "detected at 1 %", "by promise", "promised", "rejects / promise (1 %)", "(5 %)")
    shown = [
        [
            row["profile"],
            row["parts"],
            row["subsets"],
            *(f"{row[k]:.3f} ± {row[k + '_error']:.3f}" for k in keys),
        ]
        for row in rows
    ]
    report(args, {"rows": rows}, table(["profile", "parts", "subsets", *names], shown))


def study(parts: Parts, args: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows: the sizes asked for that the data set has, and all its parts."""
    n = len(parts.train)
    sizes = {size: args.repeats or REPEATS.get(size, 4) for size in args.sizes if size < n}
    return [row for profile in args.profiles for row in measure(parts, profile, {**sizes, n: 1})]


if __name__ == "__main__":
    main()
