"""Ledoit-Wolf shrinkage from moments (Ledoit and Wolf, 2004, as scikit-learn computes it)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import CheckFailed
from edge_ad.gaussian.moments import Moments


def ledoit_wolf(m: Moments) -> tuple[NDArray[np.float64], float]:
    """Shrunk covariance [d, d] and shrinkage rho in [0, 1].

    With S the covariance that divides by n, and m = tr(S) / d:

        covariance = (1 - rho) S + rho m I
        rho = min(beta, delta) / delta,  delta = |S - m I|^2,  beta = (mean |x - mu|^4 - |S|^2) / n

    (Frobenius norms). One feature has rho = 0. CheckFailed with no vectors.
    """
    if not m.n:
        raise CheckFailed("no good parts to fit; give at least 2 that differ")
    covariance = m.scatter / m.n
    if m.d == 1:
        return covariance, 0.0
    scale = float(np.trace(covariance)) / m.d
    isotropic = covariance.copy()
    isotropic.flat[:: m.d + 1] -= scale
    delta = float(np.vdot(isotropic, isotropic))
    beta = (m.fourth / m.n - float(np.vdot(covariance, covariance))) / m.n
    # Two samples have beta = 0 exactly; rounding may leave it negative.
    beta = max(0.0, min(beta, delta))
    rho = beta / delta if beta > 0.0 else 0.0
    return shrink(covariance, rho, scale), rho


def shrink(covariance: NDArray[np.float64], rho: float, scale: float) -> NDArray[np.float64]:
    """(1 - rho) covariance + rho scale I, as a new [d, d] array."""
    shrunk = (1.0 - rho) * covariance
    shrunk.flat[:: len(shrunk) + 1] += rho * scale
    return shrunk
