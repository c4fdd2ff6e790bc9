"""What happens to false rejects and detection when the line changes after calibration.

    python calibration/studies/robustness.py DATASET [--augment 4] [--split even] [--json FILE]

Fitted on train/good as it is; the test parts are then changed as frames, before anything is resized:
brightness +-20 %, blur of sigma 1 pixel, a shift of 3 % of width and height, noise of sigma 5 of 255
grey levels. Each beside the undisturbed parts, by the same calibrated thresholds, with exact 95 %
intervals. With --augment R also a fit on R altered copies of each good part (`calibration.augment`):
what it buys under each change and what it costs without any.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from common import Disturb, features, joined, load_parts, parser, report, scores, table

from edge_ad.calibrate.augment import replicate
from edge_ad.evaluate.metrics import auroc, rate_interval
from edge_ad.frame import Image
from edge_ad.gaussian.replicates import fit_with_replicates
from edge_ad.gaussian.threshold import conformal
from edge_ad.gaussian.view import ViewFit, fit_view

RATES = (0.05, 0.01)


def gain(factor: float) -> Disturb:
    """Brightness times `factor`, saturating."""
    return lambda image, _: np.clip(np.rint(factor * image.astype(np.float32)), 0, 255).astype(np.uint8)


def blur(image: Image, _: np.random.Generator) -> Image:
    """Out of focus by sigma 1 pixel of the frame."""
    return cv2.GaussianBlur(image, (0, 0), 1.0)


def shift(image: Image, rng: np.random.Generator) -> Image:
    """Moved by 3 % of width and height, either way; the border is repeated."""
    height, width = image.shape[:2]
    x, y = rng.choice([-0.03, 0.03], 2) * (width, height)
    matrix = np.array([[1.0, 0.0, x], [0.0, 1.0, y]])
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def noise(image: Image, rng: np.random.Generator) -> Image:
    """Sensor noise of sigma 5 grey levels."""
    noisy = image + 5.0 * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


CHANGES: dict[str, Disturb | None] = {
    "none": None,
    "gain +20 %": gain(1.2),
    "gain -20 %": gain(0.8),
    "blur, sigma 1 px": blur,
    "shift 3 %": shift,
    "noise, sigma 5": noise,
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--augment", type=int, default=0, metavar="R", help="altered copies per part")
    args = options.parse_args()
    kept = load_parts(args)
    settings = kept.settings("default")
    fits = {"as collected": fit_view(kept.train, settings)}
    if args.augment:
        copies = joined(
            [
                features(
                    kept.dataset.train, kept.backbone, args.cache, f"copy {turn}", replicate_of(turn)
                )
                for turn in range(args.augment)
            ]
        )
        fits[f"augment = {args.augment}"] = fit_with_replicates(kept.train, copies, settings)
    result: dict[str, Any] = {}
    rows = []
    for change, disturb in CHANGES.items():
        changed = load_parts(args, "" if disturb is None else change, disturb)
        for how, fit in fits.items():
            found = measured(fit, scores(fit, changed.test), scores(fit, changed.defects))
            result.setdefault(how, {})[change] = found
            rows.append([how, change, f"{found['auroc']:.3f}", *map(percent, cells(found))])
    head = ["fit", "change", "image AUROC"]
    for rate in RATES:
        head += [f"false rejects for {rate:.0%}", f"detected for {rate:.0%}"]
    rows.sort(key=lambda row: list(fits).index(row[0]))
    report(args, {"fits": result}, table(head, rows))


def replicate_of(turn: int) -> Disturb:
    """The product's own altered copy, another one in each turn."""
    return lambda image, rng: replicate(image, np.random.default_rng([turn, int(rng.integers(2**32))]))


def measured(fit: ViewFit, good: Any, bad: Any) -> dict[str, Any]:
    """AUROC, and for each rate false rejects and detection as (share, low, high)."""
    found: dict[str, Any] = {"auroc": auroc(good, bad)}
    for rate in RATES:
        threshold, _ = conformal(fit.outside, rate, fit.method)
        for what, values in (("false_rejects", good), ("detected", bad)):
            count = int((values > threshold).sum())
            found[f"{what}_{100 * rate:g}"] = (count / len(values), *rate_interval(count, len(values)))
    return found


def cells(found: dict[str, Any]) -> list[tuple[float, float, float]]:
    return [found[f"{what}_{100 * r:g}"] for r in RATES for what in ("false_rejects", "detected")]


def percent(of: tuple[float, float, float]) -> str:
    """Share and interval in percent."""
    return f"{100 * of[0]:.1f} % ({100 * of[1]:.1f} to {100 * of[2]:.1f})"


if __name__ == "__main__":
    main()
