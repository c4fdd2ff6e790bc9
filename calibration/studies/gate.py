"""Does `calibrate`'s comparison of two engines refuse those that agree, and find those that do not?

    python calibration/studies/gate.py [DIR of a backbone ...]

Scores of 300 of the demo's good parts by the network in float32 and in float16, each with its own fit;
float16 is the converted graph that TensorRT gets, run by ONNX Runtime on the CPU. Then 1,000 draws of
20, 60 and 300 of them, with thresholds of their own, each part moved by what float16 moves it, or by
several times that (fits of few parts have more of it). Against them: engines that give one part in
twenty, at least two, each other's scores, and those that have nothing in common. Told are the shares
refused by the order, by verdicts at the two thresholds, by those or the ones at thresholds that are set
without the part, and by any. Needs edge_ad[build].
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import table
from numpy.typing import NDArray
from precision import OnnxFeatures, rendered_parts

from edge_ad.backbone.engine import EngineIdentity, FeatureEngine
from edge_ad.backbone.openvino import open_features
from edge_ad.backbone.spec import load_backbone
from edge_ad.backbone.tensorrt.make import Request, convert
from edge_ad.calibrate.gate import (
    LEAST_CORRELATION,
    MOST_DIFFERENT,
    Judged,
    different_verdicts,
    rank_correlation,
)
from edge_ad.config import EMBEDDED_BACKBONE
from edge_ad.gaussian.threshold import conformal
from edge_ad.gaussian.view import Features, FitSettings, fit_view

PARTS, DRAWS, RATE = 300, 1000, 0.01
SIZES = (20, 60, 300)
SOME = EngineIdentity("", "", "", "", "")
Scores = NDArray[np.float64]
Other = Callable[[Scores, Scores, np.random.Generator], Scores]  # of scores and what float16 moves


def scores(engine: FeatureEngine, pictures: NDArray[np.uint8], settings: FitSettings) -> Scores:
    """Of the parts in these pictures, each by a fit without it."""
    pooled, local = [], []
    for picture in pictures:
        engine.input[0] = picture
        pooled.append(engine.infer()[0].copy())
        assert engine.local is not None
        local.append(engine.local[0].copy())
    engine.close()
    return fit_view(Features(np.stack(pooled), np.stack(local)), settings).outside


def judged(values: Scores) -> Judged:
    """With the threshold that they set."""
    return Judged(SOME, values, conformal(values, RATE, "")[0])


def refused(values: Scores, moved: Scores, other: Other, n: int) -> list[float]:
    """Shares of draws of n parts that are refused: by the order, by the verdicts at the thresholds, by
    either kind of verdicts, and by any."""
    counts = np.zeros(4)
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        some = rng.permutation(len(values))[:n]
        reference = judged(values[some])
        ours = judged(other(values[some], moved[some], rng))
        order = not rank_correlation(ours.scores, reference.scores) >= LEAST_CORRELATION
        plain = [one.scores > one.threshold for one in (ours, reference)]
        verdicts = different_verdicts(ours, reference) > MOST_DIFFERENT
        at_thresholds = np.mean(plain[0] != plain[1]) > MOST_DIFFERENT
        counts += [order, at_thresholds, verdicts, order or verdicts]
    return [round(float(share), 3) for share in counts / DRAWS]


def noisy(times: float) -> Other:
    """float16, or what is worse by a factor."""
    return lambda values, moved, rng: values + times * moved


def exchanged(values: Scores, moved: Scores, rng: np.random.Generator) -> Scores:
    """One part in twenty, at least two, has the score of another of them."""
    found = values.copy()
    some = rng.choice(len(values), max(2, len(values) // 20), replace=False)
    found[some] = found[np.roll(some, 1)]
    return found


def main() -> None:
    """Print what float16 moves, and a table, for each backbone."""
    for directory in map(Path, sys.argv[1:] or [EMBEDDED_BACKBONE]):
        backbone = load_backbone(directory)
        assert backbone.local is not None
        dim, grid = backbone.local.dim, (backbone.local.rows, backbone.local.columns)
        settings = FitSettings(backbone.levels, grid=grid)
        pictures = rendered_parts(backbone, PARTS)
        graph = convert(Request(backbone, "f16", local_dim=dim)).onnx
        reference = scores(open_features(backbone, local=True, dim=dim), pictures, settings)
        ours = scores(OnnxFeatures(graph, backbone), pictures, settings)  # type: ignore[arg-type]
        moved = ours - reference
        size = float(np.sqrt(np.mean(moved**2))) / judged(reference).threshold
        alike = rank_correlation(ours, reference)
        print(f"{backbone.name}: float16 moves scores by {size:.2%} of the threshold (RMS), "
              f"Spearman {alike:.4f}")  # fmt: skip
        others: dict[str, Other] = {f"float16 x {times}": noisy(times) for times in (1, 3, 10)}
        others |= {"1 in 20 exchanged": exchanged, "unrelated": lambda x, _, rng: rng.permutation(x)}
        rows = [(what, n, *refused(reference, moved, o, n)) for what, o in others.items() for n in SIZES]
        print(table(("engine", "parts", "order", "thresholds", "verdicts", "any"), rows))


if __name__ == "__main__":
    main()
