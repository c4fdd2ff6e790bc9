"""Which components PCA and NPCA keep, and that both ways of finding them agree."""

from __future__ import annotations

import numpy as np
import pytest

from edge_ad.errors import CheckFailed, ConfigError
from edge_ad.gaussian.moments import Moments
from edge_ad.gaussian.subspace import Reduction, basis, basis_of, kept

VALUES = np.array([60.0, 30.0, 8.0, 1.5, 0.4, 0.1])  # cumulated: 60, 90, 98, 99.5, 99.9, 100 %


@pytest.mark.parametrize(
    ("reduction", "indices"),
    [
        (Reduction("pca", 0.95), [0, 1, 2]),
        (Reduction("pca", 0.99), [0, 1, 2, 3]),
        (Reduction("npca", 0.05), [1, 2, 3, 4, 5]),
        (Reduction("npca", 0.01), [2, 3, 4, 5]),
        (Reduction("npca", 0.0007), [4, 5]),
        (Reduction("pca", 0.5), [0]),
        # The first component alone exceeds the share: NPCA keeps all, not the last one only.
        (Reduction("npca", 0.5), [0, 1, 2, 3, 4, 5]),
    ],
    ids=str,
)
def test_kept_components(reduction: Reduction, indices: list[int]) -> None:
    assert list(range(6))[kept(VALUES, reduction)] == indices


def test_pca_and_npca_of_the_same_share_overlap_by_two() -> None:
    first = range(6)[kept(VALUES, Reduction("pca", 0.99))]
    last = range(6)[kept(VALUES, Reduction("npca", 0.01))]
    assert sorted(set(first) & set(last)) == [2, 3]


@pytest.mark.parametrize("reduction", [Reduction("pca", 0.9), Reduction("npca", 0.1)], ids=str)
@pytest.mark.parametrize(("n", "d"), [(10, 40), (40, 40), (41, 40), (100, 40)])
def test_both_ways_span_the_same_space(n: int, d: int, reduction: Reduction) -> None:
    x = np.random.default_rng(n).normal(size=(n, d)) / np.arange(1, d + 1) ** 0.5
    m = Moments.of(x)
    a, b = basis(m, reduction), basis_of(x - m.mean, reduction)
    assert a is not None
    assert a.shape == b.shape
    np.testing.assert_allclose(a.T @ a, np.eye(a.shape[1]), atol=1e-10)
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-8)


def test_the_null_space_is_dropped() -> None:
    x = np.random.default_rng(1).normal(size=(10, 40))
    x[:, 30:] = 0.5
    axes = basis(Moments.of(x), Reduction("npca", 0.999))
    assert axes is not None
    assert axes.shape == (40, 9)  # n - 1 directions, none along a dead channel
    np.testing.assert_allclose(axes[30:], 0, atol=1e-12)


def test_without_a_reduction_there_is_no_basis() -> None:
    assert basis(Moments.of(np.eye(3)), Reduction()) is None


@pytest.mark.parametrize("n", [1, 5])
def test_identical_parts_have_no_basis(n: int) -> None:
    with pytest.raises(CheckFailed, match="identical"):
        basis(Moments.of(np.full((n, 3), 0.1)), Reduction("npca", 0.01))


def test_options() -> None:
    assert Reduction.from_shares() == Reduction("none", 0.0)
    assert Reduction.from_shares(npca=0.01) == Reduction("npca", 0.01)
    assert Reduction.from_shares(pca=0.99) == Reduction("pca", 0.99)
    assert [str(r) for r in (Reduction(), Reduction("npca", 0.01))] == ["none", "NPCA 1 %"]
    with pytest.raises(ConfigError, match="exclude each other"):
        Reduction.from_shares(pca=0.99, npca=0.01)
    with pytest.raises(ConfigError, match="npca = 1"):
        Reduction.from_shares(npca=1.0)
