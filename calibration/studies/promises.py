"""Do thresholds reject the share of good parts that they promise?

    python calibration/studies/promises.py simulated --json runs/promises-simulated.json
    python calibration/studies/promises.py simulated --shape wide --fits 400
    python calibration/studies/promises.py real --cache runs/cache --json runs/promises-real.json
    python calibration/studies/promises.py real --cache runs/cache --calibrated 30 --splits 200

simulated: whole fits (`gaussian.view.fit_view`, then `threshold.conformal`) on parts drawn from a known
law, and the true rate of each threshold on fresh parts. A promise holds where the mean rate is within
0.9 to 1.1 of the stated expectation. Shape "wide" has as many features as real levels and positions.

real: all good parts of a data set, split 20 times (seed = index) into halves, or a few and 200 others,
to calibrate with and to count on. The interval is that of an ideal rule on the same counts: the same
splits applied to scores that never depend on the fit, drawn afresh 4,000 times, so that it knows that
the splits overlap.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

# One process per core, each with one thread; before NumPy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from common import PROFILES, joined, load_parts, parser, report, scores, share, table
from numpy.typing import NDArray

from edge_ad.gaussian.replicates import fit_with_replicates
from edge_ad.gaussian.threshold import conformal
from edge_ad.gaussian.view import Features, FitSettings, ViewFit, fit_view

RATES = (0.05, 0.01)
FACTORS = 3
FRESH = 400  # parts that a simulated threshold is counted on
OTHERS = 200  # parts to count on beside a few real ones
IDEAL = 4000  # draws of the ideal rule
REPLICATED = "default, augment = 2"
REPLICATES, NOISE = 2, 0.3
SIMULATED = {**PROFILES, REPLICATED: PROFILES["default"]}


class Shape(NamedTuple):
    """Positions and local dimensions of simulated parts, and dimensions of their pooled levels."""

    grid: tuple[int, int]
    width: int
    levels: tuple[int, ...]


SHAPES = {"narrow": Shape((6, 6), 10, (6, 12)), "wide": Shape((8, 8), 128, (64, 160))}


class Level(NamedTuple):
    name: str
    offset: int
    dim: int


class Law:
    """A law of parts with the shape of real features: a few factors move everything, light and coarse
    parts alike; neighbours share what is left; variances fall off along dimensions and differ between
    positions; tails are heavier than a normal law's and skewed, as after a ReLU."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.positions, self.width = shape.grid[0] * shape.grid[1], shape.width
        dims = sum(shape.levels)
        self.loads = rng.standard_normal((FACTORS, self.positions, self.width)) * 0.7
        self.loads += rng.standard_normal((FACTORS, 1, self.width))
        self.pooled_loads = rng.standard_normal((FACTORS, dims))
        self.scale = rng.uniform(0.5, 2.0, (self.positions, 1)) / np.sqrt(np.arange(1, self.width + 1))
        mixing = rng.standard_normal((self.width, self.width))
        self.mixing = np.linalg.qr(mixing)[0]
        self.pooled_mixing = np.linalg.qr(rng.standard_normal((dims, dims)))[0]
        self.pooled_mixing /= np.sqrt(np.arange(1, dims + 1))[:, None]
        place = np.stack(np.meshgrid(*(np.arange(side) for side in shape.grid), indexing="ij"), -1)
        place = place.reshape(-1, 2)
        apart = ((place[:, None] - place) ** 2).sum(-1)
        self.smoothing = np.linalg.cholesky(np.exp(-apart / 4.0) + 0.2 * np.eye(self.positions))

    def draw(self, rng: np.random.Generator, n: int) -> Features:
        """n parts."""
        factors = rng.standard_normal((n, FACTORS)) * rng.gamma(4.0, 0.25, (n, 1))
        rest = self.smoothing @ rng.standard_normal((n, self.positions, self.width))
        rest *= rng.gamma(8.0, 0.125, (n, 1, 1))
        local = np.einsum("nf,fpd->npd", factors, self.loads) + (rest * self.scale) @ self.mixing
        pooled = factors @ self.pooled_loads
        pooled += rng.standard_normal((n, pooled.shape[1])) @ self.pooled_mixing
        pooled += 0.3 * (pooled**2 - 1.0)
        skewed = np.where(local > 0.0, local, 0.4 * local)
        return Features(pooled.astype(np.float32), skewed.astype(np.float32))


def fitted(profile: str, shape: Shape, parts: Features, rng: np.random.Generator) -> ViewFit:
    """The whole fit of simulated parts; replicates are the parts with a little noise of their own."""
    local, reduction = SIMULATED[profile]
    levels = [Level(f"level{i}", sum(shape.levels[:i]), dim) for i, dim in enumerate(shape.levels)]
    settings = FitSettings(levels, reduction, grid=shape.grid if local else None)
    if profile != REPLICATED:
        return fit_view(parts, settings)
    assert parts.local is not None
    noisy = [
        np.concatenate([x + NOISE * rng.standard_normal(x.shape) for _ in range(REPLICATES)])
        for x in (parts.pooled, parts.local)
    ]
    replicates = Features(noisy[0].astype(np.float32), noisy[1].astype(np.float32))
    return fit_with_replicates(parts, replicates, settings)


def simulated_fit(task: tuple[str, str, int, int]) -> list[tuple[float, float]]:
    """For one simulated fit: at each rate what was promised, and what new parts showed."""
    profile, name, n, seed = task
    shape = SHAPES[name]
    law, rng = Law(shape), np.random.default_rng((n, seed))
    fit = fitted(profile, shape, law.draw(rng, n), rng)
    fresh = fit.score(law.draw(rng, FRESH)).scores
    found = []
    for rate in RATES:
        threshold, promise = conformal(fit.outside, rate, fit.method)
        found.append((promise.expected, share(fresh, threshold)))
    return found


def simulated(args: argparse.Namespace) -> None:
    """The table of simulated fits."""
    rows: list[list[object]] = []
    result = []
    with ProcessPoolExecutor(args.processes) as pool:
        for profile in args.profiles:
            for n in args.parts:
                tasks = [(profile, args.shape, n, seed) for seed in range(args.fits)]
                found = np.array(list(pool.map(simulated_fit, tasks, chunksize=25)))
                for i, rate in enumerate(RATES):
                    row = summary(profile, n, rate, found[:, i])
                    result.append(row)
                    shown = f"{row['ratio']:.3f} ± {row['error']:.3f}"
                    holds = "yes" if 0.9 <= row["ratio"] <= 1.1 else "NO"
                    rows.append(
                        [profile, n, f"{100 * rate:g} %", row["expected"], row["mean"], shown, holds]
                    )
                    print(*rows[-1], flush=True)
    head = ["profile", "parts", "target", "expected", "mean rate", "ratio ± s.e.", "holds"]
    report(args, {"fits": args.fits, "shape": args.shape, "rows": result}, table(head, rows))


def summary(profile: str, n: int, rate: float, found: NDArray[np.float64]) -> dict[str, Any]:
    """Mean rate over fits beside the promise; found: [fits, 2], promised and seen."""
    expected, seen = float(found[0, 0]), found[:, 1]
    return {
        "profile": profile,
        "parts": n,
        "target": rate,
        "expected": expected,
        "mean": float(seen.mean()),
        "ratio": float(seen.mean()) / expected,
        "error": float(seen.std(ddof=1)) / np.sqrt(len(seen)) / expected,
    }


def split(n: int, seed: int, calibrated: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The parts to calibrate with and those to count on: halves, or so many and 200 others."""
    order = np.random.default_rng(seed).permutation(n)
    if calibrated is None:
        return order[: n // 2], order[n // 2 :]
    return order[:calibrated], order[calibrated : calibrated + OTHERS]


def ideal_interval(
    n: int, splits: int, rate: float, calibrated: int | None
) -> tuple[float, float, float]:
    """Mean and central 95 % of the mean false-reject rate that scores independent of any fit show."""
    rng = np.random.default_rng(0)
    drawn = rng.random((IDEAL, n))
    means = np.zeros(IDEAL)
    for seed in range(splits):
        fitted_on, held_out = split(n, seed, calibrated)
        index = conformal(np.arange(len(fitted_on)), rate, "ideal")[1].index
        thresholds = np.sort(drawn[:, fitted_on], axis=1)[:, index - 1, None]
        means += (drawn[:, held_out] > thresholds).mean(axis=1) / splits
    low, high = np.quantile(means, (0.025, 0.975))
    return float(means.mean()), float(low), float(high)


def real(args: argparse.Namespace) -> None:
    """The table of splits of real parts."""
    parts = load_parts(args)
    good = joined([parts.train, parts.test])
    n, calibrated = len(good), args.calibrated
    ideal = {rate: ideal_interval(n, args.splits, rate, calibrated) for rate in RATES}
    rows: list[list[object]] = []
    result: dict[str, Any] = {}
    for profile in args.profiles:
        found = np.empty((args.splits, len(RATES)))
        for seed in range(args.splits):
            fitted_on, held_out = split(n, seed, calibrated)
            fit = fit_view(good.take(fitted_on), parts.settings(profile))
            new = scores(fit, good.take(held_out))
            for i, rate in enumerate(RATES):
                found[seed, i] = share(new, conformal(fit.outside, rate, fit.method)[0])
            print(profile, seed, *found[seed].round(4).tolist(), flush=True)
        result[profile] = {"rates": found.tolist()}
        for i, rate in enumerate(RATES):
            mean, low, high = ideal[rate]
            seen = float(found[:, i].mean())
            verdict = "yes" if low <= seen <= high else "NO"
            result[profile][f"{100 * rate:g} %"] = {"mean": seen, "ideal": [low, high], "expected": mean}
            rows.append([profile, f"{100 * rate:g} %", seen, mean, f"{low:.4f} to {high:.4f}", verdict])
    head = ["profile", "target", "mean rate", "ideal mean", "ideal 95 %", "inside"]
    about = {"parts": n, "calibrated": calibrated, "splits": args.splits, "profiles": result}
    report(args, about, table(head, rows))


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = made.add_subparsers(dest="command", required=True)
    first = commands.add_parser(
        "simulated", parents=[parser("", dataset=False)], conflict_handler="resolve"
    )
    first.add_argument("--fits", type=int, default=2000)
    first.add_argument("--parts", type=int, nargs="+", default=[30, 60, 120])
    first.add_argument("--shape", choices=SHAPES, default="narrow")
    first.add_argument("--processes", type=int, default=2)
    second = commands.add_parser("real", parents=[parser("")], conflict_handler="resolve")
    second.add_argument("--splits", type=int, default=20)
    second.add_argument("--calibrated", type=int, metavar="N", help="so many instead of half of them")
    for command, known in ((first, SIMULATED), (second, PROFILES)):
        command.add_argument("--profiles", nargs="+", default=list(PROFILES), choices=list(known))
    args = made.parse_args()
    {"simulated": simulated, "real": real}[args.command](args)


if __name__ == "__main__":
    main()
