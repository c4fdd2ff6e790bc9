"""What the studies share: a data set's features, extracted once and kept, and how a study is told and
written.

Pictures go through the product's own resize rule and CPU engine. `--cache DIR` keeps the features on
disk under a name made of the network, the resize rule, the disturbance and the files, so that the next
study starts at once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import Backbone, load_backbone
from edge_ad.capture.images import read_image
from edge_ad.capture.pixels import file_rule
from edge_ad.config import EMBEDDED_BACKBONE, MAX_MEGAPIXELS
from edge_ad.evaluate.dataset import SPLITS, Dataset, open_dataset, take_split
from edge_ad.evaluate.metrics import auroc, lowest_threshold
from edge_ad.frame import Image
from edge_ad.gaussian.model import NONE
from edge_ad.gaussian.subspace import Reduction
from edge_ad.gaussian.threshold import conformal
from edge_ad.gaussian.view import Features, FitSettings, ViewFit
from edge_ad.preprocess import RULE, Preprocessor

TILES = Path(__file__).resolve().parents[3] / "shared/data/magnetic_tile"
PROFILES: dict[str, tuple[bool, Reduction]] = {  # local Gaussians too?
    "default": (True, NONE),
    "paper": (False, NONE),
    "paper, PCA 99 %": (False, Reduction("pca", 0.99)),
    "paper, NPCA 1 %": (False, Reduction("npca", 0.01)),
}
Disturb = Callable[[Image, np.random.Generator], Image]


@dataclass(frozen=True)
class Parts:
    """A data set's features: good parts of both folders, and defects of the chosen half by kind."""

    dataset: Dataset
    backbone: Backbone
    train: Features
    test: Features
    bad: dict[str, Features]

    @property
    def good(self) -> Features:
        """All good parts: train/good, then test/good."""
        return joined([self.train, self.test])

    @property
    def defects(self) -> Features:
        """All defects, kind after kind."""
        return joined(list(self.bad.values()))

    def settings(self, profile: str) -> FitSettings:
        """What a station of this profile fits."""
        local, reduction = PROFILES[profile]
        grid = self.backbone.local
        assert grid is not None
        where = (grid.rows, grid.columns) if local else None
        return FitSettings(self.backbone.levels, reduction, grid=where)


def parser(about: str | None, dataset: bool = True) -> argparse.ArgumentParser:
    """Options that every study has; `about`: its docstring."""
    text = (about or "").strip()
    made = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    if dataset:
        made.add_argument("dataset", type=Path, nargs="?", default=TILES, help="in MVTec layout")
        made.add_argument("--backbone", type=Path, default=EMBEDDED_BACKBONE, metavar="DIR")
        made.add_argument("--split", choices=SPLITS, default="even", help="which defects are looked at")
        made.add_argument("--cache", type=Path, metavar="DIR", help="keep features there")
    return made


def load_parts(args: argparse.Namespace, name: str = "", disturb: Disturb | None = None) -> Parts:
    """Features of everything that is looked at; disturbed as `disturb` says, known by `name`."""
    dataset = take_split(open_dataset(args.dataset), args.split)
    backbone = load_backbone(args.backbone)

    def of(paths: Sequence[Path]) -> Features:
        return features(paths, backbone, args.cache, name, disturb)

    bad = {kind: of(paths) for kind, paths in dataset.defects.items()}
    return Parts(dataset, backbone, of(dataset.train), of(dataset.good), bad)


def features(
    paths: Sequence[Path],
    backbone: Backbone,
    cache: Path | None = None,
    name: str = "",
    disturb: Disturb | None = None,
) -> Features:
    """Features of files, pooled and local. Each file's random numbers follow from its name alone."""
    listing = "\n".join([backbone.sha256, RULE, name, *(str(path.resolve()) for path in paths)])
    key = hashlib.sha256(listing.encode()).hexdigest()[:24]
    kept = None if cache is None else cache / f"features-{key}.npz"
    if kept is not None and kept.is_file():
        with np.load(kept) as found:
            return Features(found["pooled"], found["local"])
    rows = list(_extract(paths, backbone, disturb))
    result = Features(np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows]))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part.npz")
        np.savez(part, pooled=result.pooled, local=result.local)
        part.replace(kept)
    return result


def _extract(
    paths: Sequence[Path], backbone: Backbone, disturb: Disturb | None
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    engine, rule = open_features(backbone, local=True), file_rule("auto", 0)
    preprocessor = Preprocessor(backbone.height, backbone.width)
    for path in paths:
        image = read_image(path, rule, int(MAX_MEGAPIXELS * 1e6))
        if disturb is not None:
            seed = int(hashlib.sha256(path.name.encode()).hexdigest()[:16], 16)
            image = disturb(image, np.random.default_rng(seed))
        preprocessor.prepare(np.ascontiguousarray(image), None, engine.input[0])
        pooled = engine.infer()[0].copy()
        assert engine.local is not None
        yield pooled, engine.local[0].copy()
    engine.close()


def joined(parts: Sequence[Features]) -> Features:
    """Several groups of parts as one."""
    pooled = np.concatenate([part.pooled for part in parts])
    local = [part.local for part in parts if part.local is not None]
    return Features(pooled, np.concatenate(local) if local else None)


def scores(fit: ViewFit, parts: Features, at_once: int = 128) -> NDArray[np.float64]:
    """Scores [n], a few parts at a time: float64 copies of local features are large."""
    n = len(parts)
    blocks = [np.arange(i, min(i + at_once, n)) for i in range(0, n, at_once)]
    return np.concatenate([fit.score(parts.take(block)).scores for block in blocks])


def judged(
    fit: ViewFit, good: NDArray[Any], bad: NDArray[Any], rates: Sequence[float] = (0.05, 0.01)
) -> dict[str, float]:
    """AUROC; detection at 1 % false rejects of these good parts; and for each rate what the calibrated
    threshold promises and does."""
    result = {"auroc": auroc(good, bad), "detected_at_1": share(bad, lowest_threshold(good, 0.01))}
    for rate in rates:
        threshold, promise = conformal(fit.outside, rate, fit.method)
        key = f"{100 * rate:g}"
        result[f"expected_{key}"] = promise.expected
        result[f"false_rejects_{key}"] = share(good, threshold)
        result[f"detected_{key}"] = share(bad, threshold)
    return result


def share(values: NDArray[Any], threshold: float) -> float:
    """Which share of scores lies above the threshold."""
    return float((np.asarray(values) > threshold).mean())


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown; numbers of four digits."""
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def report(args: argparse.Namespace, result: dict[str, Any], *tables: str) -> None:
    """Print the tables, write the numbers, and say how they came about."""
    for text in tables:
        print(f"\n{text}", flush=True)
    if args.json is not None:
        about = {key: str(value) for key, value in vars(args).items() if key != "json"}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"options": about, **result}, indent=1) + "\n")


cv2.setNumThreads(1)
