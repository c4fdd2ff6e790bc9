"""Whitening factors in halves: a scale for each row, and what it costs.

A half is wrong by up to 1 / 2048 of itself. Over the hundreds of rows and columns of a wide level that
averages out; in a narrow one it does not, and in a factor of an ill-conditioned covariance, which takes
differences of large numbers, it grows. So each factor is tried.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_ad.gaussian.cuda.layout import Store

# Halves where good parts' distances stay within this of float32's, relative; 1e-4 is asked for.
TOLERANCE = 5e-5
SAMPLES = 64
# With fewer rows or columns a factor is not worth the trial: there is next to nothing to be read less.
WORTHWHILE = 64


def to_halves(whitening: NDArray[np.float32]) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """W [..., k, d] as halves times scales [..., k], powers of two."""
    largest = np.abs(whitening).max(axis=-1, initial=0.0)
    _, exponent = np.frexp(np.where(largest > 0.0, largest, 1.0))
    # The scale itself must be a normal float32.
    scales = np.ldexp(np.float32(1.0), np.maximum(exponent - 15, -126)).astype(np.float32)
    return (whitening / scales[..., None]).astype(np.float16), scales


def half_error(whitening: NDArray[np.float32], seed: int = 0) -> float:
    """Largest relative error of d of 64 good parts if W [..., k, d] is stored in halves.

    Good parts are what W was made of: W (x - mean) = z of independent standard normal numbers. Infinite
    where W is singular, and no x gives such z.
    """
    exact = whitening.astype(np.float64)
    *lead, k, d = exact.shape
    z = np.random.default_rng(seed).standard_normal((k, SAMPLES))
    z = np.broadcast_to(z, (*lead, k, SAMPLES))
    transposed = exact.swapaxes(-1, -2)
    try:
        x = np.linalg.solve(exact, z) if k == d else transposed @ np.linalg.solve(exact @ transposed, z)
    except np.linalg.LinAlgError:
        return math.inf
    halves, scales = to_halves(whitening)
    stored = halves.astype(np.float64) * scales[..., None]
    before, after = (np.linalg.norm(w @ x, axis=-2) for w in (exact, stored))
    error = float(np.max(np.abs(after / before - 1.0)))
    return error if math.isfinite(error) else math.inf


def choose_store(whitening: NDArray[np.float32]) -> Store:
    """Halves for W [..., k, d] where they are precise enough and worth it, else float32."""
    if min(whitening.shape[-2:]) < WORTHWHILE:
        return "f32"
    return "f16" if half_error(whitening) <= TOLERANCE else "f32"
