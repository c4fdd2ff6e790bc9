"""How many good parts it takes: AUROC, detection and promise at 10, 20, 50, 100, 300 parts and all.

    python calibration/studies/few_parts.py DATASET [--seeds 5] [--svg FILE] [--json FILE]

Seeded subsets of train/good are fitted; test/good and the defects are the same for all. Means over the
seeds with their standard deviation. "detected" is by the calibrated threshold for 1 %, or by the highest
score where there are fewer than 99 parts: the column "expected" says what that promises. "detected at
1 %" is by the threshold that 1 % of the good test parts exceed, which no station knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import judged, load_parts, parser, report, scores, table

from edge_ad.gaussian.view import fit_view

COUNTS = (10, 20, 50, 100, 300)
PROFILES = ("default", "paper")
WIDTH, HEIGHT, LEFT, TOP = 640, 300, 56, 28
COLOURS = {"default": "#1f6feb", "paper": "#9a6700"}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=5, help="subsets per number of parts")
    options.add_argument("--svg", type=Path, metavar="FILE", help="write the plot there")
    args = options.parse_args()
    parts = load_parts(args)
    everything = len(parts.train)
    result: dict[str, Any] = {}
    rows = []
    for n in [*(c for c in COUNTS if c < everything), everything]:
        for profile in PROFILES:
            found = []
            for seed in range(args.seeds if n < everything else 1):
                chosen = np.random.default_rng(seed).permutation(everything)[:n]
                fit = fit_view(parts.train.take(chosen), parts.settings(profile))
                found.append(judged(fit, scores(fit, parts.test), scores(fit, parts.defects), (0.01,)))
            mean = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
            spread = {key: float(np.std([one[key] for one in found])) for key in found[0]}
            result.setdefault(profile, {})[str(n)] = {"mean": mean, "deviation": spread}
            rows.append(
                [
                    profile,
                    n,
                    f"{mean['auroc']:.3f} ± {spread['auroc']:.3f}",
                    *(
                        f"{100 * mean[key]:.1f} % ± {100 * spread[key]:.1f}"
                        for key in ("detected_at_1", "detected_1", "false_rejects_1")
                    ),
                    f"{100 * mean['expected_1']:.1f} %",
                ]
            )
    rows.sort(key=lambda row: PROFILES.index(row[0]))
    head = [
        "profile",
        "parts",
        "image AUROC",
        "detected at 1 %",
        "detected",
        "false rejects",
        "expected",
    ]
    report(args, {"profiles": result}, table(head, rows))
    if args.svg is not None:
        args.svg.write_text(plot(result))


def plot(result: dict[str, Any]) -> str:
    """Image AUROC and detection at 1 % over the number of parts, on a logarithmic axis, as SVG."""
    panels = [
        ("auroc", "image AUROC", 0.5, 1.0),
        ("detected_at_1", "detected at 1 % false rejects", 0.0, 1.0),
    ]
    counts = [int(n) for n in next(iter(result.values()))]
    body = []
    for column, (key, label, low, high) in enumerate(panels):
        left = LEFT + column * (WIDTH // 2)
        wide, tall = WIDTH // 2 - LEFT - 12, HEIGHT - TOP - 48

        def x(n: float, left: int = left, wide: int = wide) -> float:
            return left + wide * np.log(n / counts[0]) / np.log(counts[-1] / counts[0])

        def y(v: float, low: float = low, high: float = high, tall: int = tall) -> float:
            return TOP + tall * (high - v) / (high - low)

        body.append(f'<text x="{left}" y="{TOP - 12}" font-weight="600">{label}</text>')
        for tick in np.linspace(low, high, 6):
            body.append(
                f'<line x1="{left}" x2="{left + wide}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" '
                f'stroke="#d0d7de"/><text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">'
                f"{tick:.1f}</text>"
            )
        for n in counts:
            body.append(f'<text x="{x(n):.1f}" y="{HEIGHT - 30}" text-anchor="middle">{n}</text>')
        body.append(
            f'<text x="{left + wide / 2}" y="{HEIGHT - 10}" text-anchor="middle">good parts</text>'
        )
        for profile, found in result.items():
            points = [(x(int(n)), y(one["mean"][key])) for n, one in found.items()]
            line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
            colour = COLOURS[profile]
            body.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
            body += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
            if not column:
                row = y(low) - 30 + 16 * list(result).index(profile)
                body.append(
                    f'<text x="{left + wide - 8}" y="{row:.0f}" text-anchor="end" fill="{colour}">{profile}</text>'
                )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif" font-size="12" fill="#24292f">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{"".join(body)}</svg>\n'
    )


if __name__ == "__main__":
    main()
