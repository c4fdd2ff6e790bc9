"""PCA and NPCA: which principal components of the good parts are kept (Rippel et al., 2020).

With c the cumulated share of variance and k the first component at which c exceeds the wanted share, PCA
keeps components 0..k and NPCA keeps k-1.. : they overlap by two components, as in the publication.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_ad.errors import CheckFailed, ConfigError
from edge_ad.gaussian.moments import Moments


class Reduction(msgspec.Struct, frozen=True):
    """Which share of variance is kept: the first (pca, 0.99) or the last (npca, 0.01: "NPCA 1 %")."""

    kind: Literal["none", "pca", "npca"] = "none"
    share: float = 0.0

    @classmethod
    def from_shares(cls, pca: float = 0.0, npca: float = 0.0) -> Reduction:
        """From the two options, of which 0 means off. ConfigError when both are on or out of range."""
        if pca and npca:
            raise ConfigError(f"pca = {pca:g} and npca = {npca:g} exclude each other; give one")
        for name, share in (("pca", pca), ("npca", npca)):
            if not 0.0 <= share < 1.0:
                raise ConfigError(f"{name} = {share:g} is no share of variance; give 0 < {name} < 1")
        if pca:
            return cls("pca", pca)
        return cls("npca", npca) if npca else cls()

    def __str__(self) -> str:
        return "none" if self.kind == "none" else f"{self.kind.upper()} {100 * self.share:g} %"


def basis(m: Moments, reduction: Reduction) -> NDArray[np.float64] | None:
    """Kept principal axes as columns, [d, k], largest variance first; None without a reduction.

    Directions without variance (dead channels, the null space of n <= d parts) are never kept.
    """
    if reduction.kind == "none":
        return None
    values, axes = np.linalg.eigh(m.scatter)
    values, axes = values[::-1], axes[:, ::-1]
    rank = _rank(values, m.n)
    return np.ascontiguousarray(axes[:, :rank][:, kept(values[:rank], reduction)])


def basis_of(centred: NDArray[np.float64], reduction: Reduction) -> NDArray[np.float64]:
    """As `basis`, from centred vectors [n, d]: much faster when n < d. Not for kind "none"."""
    n, d = centred.shape
    if n > d:
        values, axes = np.linalg.eigh(centred.T @ centred)
        values, axes = values[::-1], axes[:, ::-1]
        rank = _rank(values, n)
        return np.ascontiguousarray(axes[:, :rank][:, kept(values[:rank], reduction)])
    values, left = np.linalg.eigh(centred @ centred.T)
    values, left = values[::-1], left[:, ::-1]
    rank = _rank(values, n)
    keep = kept(values[:rank], reduction)
    return np.asarray((centred.T @ left[:, :rank][:, keep]) / np.sqrt(values[:rank][keep]))


def kept(values: NDArray[np.float64], reduction: Reduction) -> slice:
    """Which of the components with these variances (largest first, all positive) are kept."""
    share = np.cumsum(values) / values.sum()
    if reduction.kind == "pca":
        return slice(0, int(np.argmax(share > reduction.share)) + 1)
    # The first component alone may exceed the share: k = 0, and then everything is kept.
    return slice(max(int(np.argmax(share > 1.0 - reduction.share)) - 1, 0), len(values))


def _rank(values: NDArray[np.float64], n: int) -> int:
    """How many eigenvalues of a scatter of n vectors (largest first) are not rounding noise."""
    floor = max(n, len(values)) * np.finfo(np.float64).eps * max(float(values[0]), 0.0)
    rank = min(int((values > floor).sum()), n - 1)
    if rank < 1:
        raise CheckFailed(
            f"the {n} good parts have identical features, so nothing can be fitted; "
            "give different pictures of good parts"
        )
    return rank
