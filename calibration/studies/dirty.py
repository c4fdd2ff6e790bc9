"""Defects among the good parts: what screening finds, and what they cost.

    python calibration/studies/dirty.py ../shared/data/magnetic_tile --split even --cache runs/cache \\
        --json runs/dirty.json

For each seed a sample of the defects is mixed into train/good, so that it makes up 5 or 10 % of the
set; these defects leave the test set. Precision and recall are of the parts that `calibrate
--screen drop` would drop. AUROC is of test/good against the defects that are left, by a fit on the
good parts alone ("clean"), on the mixed set ("mixed"), on what screening leaves of it ("screened"),
and on what is left without the defects that lie beyond 4 by the clean fit ("known"): what a
screening would reach that nothing hides from.

"Twins" is the share of the mixed defects whose nearest neighbour in the data set is a defect that
stayed in the test set. The magnetic tiles were photographed up to six times each, so that a mixed set
declares good what the test set calls a defect: the same tile, seconds later. With `--same-part RULE`
every picture of a mixed tile leaves the test set. RULE is a regular expression whose group is a
file's number in the recording; pictures of one part are those with less than 100 between neighbours
(for the tiles 'num_(\\d+)': 76 parts among the 209 pictures of the even half).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Parts, joined, load_parts, parser, report, scores, table
from numpy.typing import NDArray

from edge_ad.evaluate.metrics import auroc
from edge_ad.gaussian.outliers import Separation, find_outliers
from edge_ad.gaussian.view import Features, FitSettings, ViewFit, fit_view

SHARES = (0.05, 0.1)
KNOWN = 4.0
APART = 100  # in a recording's numbering: pictures further apart show different parts

Mask = NDArray[np.bool_]


def screen(parts: Features, settings: FitSettings, whole: ViewFit) -> Separation:
    """What `calibrate` does with one view."""

    def without(out: Mask) -> NDArray[np.float64]:
        fitted = fit_view(parts.take(~out), settings)
        result = np.empty(len(out))
        result[~out] = fitted.outside
        result[out] = scores(fitted, parts.take(out))
        return result

    return find_outliers(whole.outside, without)


def twins(parts: Parts, mixed: NDArray[np.int64], left: NDArray[np.int64]) -> float:
    """Share of the mixed defects whose nearest neighbour by pooled features is a defect that is left."""
    pooled = joined([parts.defects, parts.good]).pooled
    pooled = (pooled - pooled.mean(axis=0)) / np.maximum(pooled.std(axis=0), 1e-12)
    distances = ((pooled[mixed][:, None] - pooled) ** 2).sum(axis=2)
    distances[np.arange(len(mixed)), mixed] = np.inf
    return float(np.isin(distances.argmin(axis=1), left).mean())


def same_part(paths: Sequence[Path], rule: str | None) -> NDArray[np.int64]:
    """Number of the part that each picture shows; without a rule each shows its own."""
    if rule is None:
        return np.arange(len(paths))
    found = [re.search(rule, path.name) for path in paths]
    numbers = np.array([int(match[1]) if match else -APART * (i + 2) for i, match in enumerate(found)])
    order = np.argsort(numbers, kind="stable")
    part = np.empty(len(paths), np.int64)
    part[order] = np.cumsum(np.diff(numbers[order], prepend=numbers[order[0]]) >= APART)
    return part


def one_mix(
    parts: Parts, settings: FitSettings, share: float, seed: int, shown: NDArray[np.int64]
) -> dict[str, Any]:
    """The numbers of one sample; shown: the part that each defect is a picture of."""
    train, defects = parts.train, parts.defects
    count = round(share * len(train) / (1.0 - share))
    if count >= len(defects):
        raise SystemExit(f"{len(defects)} defects are too few to mix in {count}; use --split all")
    order = np.random.default_rng((seed, count)).permutation(len(defects))
    mixed, left = np.sort(order[:count]), np.sort(order[count:])
    left = left[~np.isin(shown[left], shown[mixed])]
    dirty = joined([train, defects.take(mixed)])
    bad = np.arange(len(dirty)) >= len(train)

    def tell_apart(fitted: ViewFit) -> float:
        return auroc(scores(fitted, parts.test), scores(fitted, defects.take(left)))

    clean, whole = fit_view(train, settings), fit_view(dirty, settings)
    found = screen(dirty, settings, whole)
    kept = fit_view(dirty.take(~found.out), settings)
    far = bad.copy()
    far[bad] = scores(clean, defects.take(mixed)) > KNOWN
    known = fit_view(dirty.take(~far), settings)
    row: dict[str, Any] = {
        "share": share,
        "seed": seed,
        "mixed": count,
        "tested": len(left),
        "dropped": int(found.out.sum()),
        "dropped_good": int((found.out & ~bad).sum()),
        "precision": float(bad[found.out].mean()) if found.out.any() else 1.0,
        "recall": float(found.out[bad].mean()),
        "gap": found.gap,
        "clean": tell_apart(clean),
        "dirty": tell_apart(whole),
        "screened": tell_apart(kept),
        "known": tell_apart(known),
        "twins": twins(parts, mixed, left),
    }
    print({key: round(value, 4) for key, value in row.items()}, flush=True)
    return row


def on_clean(parts: Parts, settings: FitSettings, seeds: int) -> dict[str, Any]:
    """Parts dropped from sets without any mixed-in defect: train/good, and random thirds of it."""
    train = parts.train
    whole = screen(train, settings, fit_view(train, settings))
    seen, dropped = 0, 0
    for seed in range(seeds):
        third = train.take(np.random.default_rng(seed).permutation(len(train))[: len(train) // 3])
        dropped += int(screen(third, settings, fit_view(third, settings)).out.sum())
        seen += len(third)
    row = {
        "parts": len(train),
        "dropped": int(whole.out.sum()),
        "thirds": seeds,
        "dropped_of_thirds": dropped / seen if seen else 0.0,
    }
    print(row, flush=True)
    return row


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--seeds", type=int, default=3, help="samples of each share")
    made.add_argument("--profile", choices=["default", "paper"], default="default")
    made.add_argument("--same-part", metavar="RULE", help="pictures of a mixed part leave the test set")
    args = made.parse_args()
    parts = load_parts(args)
    settings = parts.settings(args.profile)
    paths = [path for kind in parts.dataset.defects.values() for path in kind]
    shown = same_part(paths, args.same_part)
    clean = on_clean(parts, settings, args.seeds)
    rows = [
        one_mix(parts, settings, share, seed, shown) for share in SHARES for seed in range(args.seeds)
    ]
    keys = ["precision", "recall", "dropped_good", "clean", "dirty", "screened", "known", "twins"]
    means = [
        [
            f"{100 * share:g} %",
            *(float(np.mean([r[k] for r in rows if r["share"] == share])) for k in keys),
        ]
        for share in SHARES
    ]
    head = [
        "defects",
        "precision",
        "recall",
        "good dropped",
        "AUROC clean",
        "mixed",
        "screened",
        "known",
    ]
    report(
        args,
        {"clean": clean, "mixes": rows},
        f"Clean: {clean['dropped']} of {clean['parts']} parts dropped, of thirds "
        f"{clean['dropped_of_thirds']:.2%}.",
        table([*head, "twins"], means),
    )


if __name__ == "__main__":
    main()
