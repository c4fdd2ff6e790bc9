"""Moments merge to the moments of the union, whatever the order, also far from the origin."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_ad.errors import CheckFailed
from edge_ad.gaussian.moments import Moments, merge_all

F64 = NDArray[np.float64]


def naive(x: F64) -> tuple[F64, F64, F64, float]:
    """The definitions, one vector at a time, in extended precision, counted from the first vector."""
    wide = x.astype(np.longdouble) - x[0]
    mean = wide.sum(axis=0) / len(x)
    scatter = np.zeros((x.shape[1],) * 2, np.longdouble)
    third = np.zeros(x.shape[1], np.longdouble)
    fourth = np.longdouble(0)
    for row in wide - mean:
        square = (row * row).sum()
        scatter += np.outer(row, row)
        third += square * row
        fourth += square * square
    return (
        (mean + x[0]).astype(np.float64),
        scatter.astype(np.float64),
        third.astype(np.float64),
        float(fourth),
    )


def errors(m: Moments, other: tuple[F64, F64, F64, float]) -> list[float]:
    """Relative error of each moment in its norm; the third's scale is its Cauchy-Schwarz bound, as it
    may cancel to nothing in symmetric data."""
    mean, scatter, third, fourth = other
    bound = np.sqrt(fourth * np.trace(scatter))
    return [
        float(np.linalg.norm(m.mean - mean) / np.linalg.norm(mean)),
        float(np.linalg.norm(m.scatter - scatter) / np.linalg.norm(scatter)),
        float(np.linalg.norm(m.third - third) / bound),
        abs(m.fourth - fourth) / fourth,
    ]


@pytest.mark.parametrize("mean", [0.0, 1.0, 1e6, -1e9])
@pytest.mark.parametrize(("n", "d"), [(2, 1), (7, 3), (40, 90), (500, 12)])
def test_of_matches_the_definition(n: int, d: int, mean: float) -> None:
    x = np.random.default_rng(n).normal(size=(n, d)) ** 3 + mean
    assert max(errors(Moments.of(x), naive(x))) < 1e-12


@pytest.mark.parametrize("mean", [0.0, 3.0, 1e6])
def test_merging_in_any_order_gives_the_moments_of_all(mean: float) -> None:
    rng = np.random.default_rng(5)
    x = rng.gamma(0.7, size=(300, 24)) * np.linspace(0.01, 10, 24) + mean
    truth = naive(x)
    cuts = np.sort(rng.choice(np.arange(1, 300), 40, replace=False))
    parts = [Moments.of(p) for p in np.split(x, cuts)]
    for seed in range(6):
        random.Random(seed).shuffle(parts)
        assert max(errors(merge_all(parts), truth)) < 1e-12


def test_merging_one_vector_at_a_time_and_as_a_tree_agree() -> None:
    x = np.random.default_rng(6).normal(size=(257, 8)) + 1e7 * np.arange(1, 9)
    singles = [Moments.of(row[None]) for row in x]
    chain = merge_all(singles)
    while len(singles) > 1:
        pairs = zip(singles[::2], singles[1::2], strict=False)
        singles = [a.merge(b) for a, b in pairs] + singles[len(singles) // 2 * 2 :]
    tree = singles[0]
    assert max(errors(chain, (tree.mean, tree.scatter, tree.third, tree.fourth))) < 1e-12
    assert max(errors(chain, naive(x))) < 1e-12


def test_far_apart_sets_merge_exactly() -> None:
    """Two machines whose features differ by a million standard deviations."""
    rng = np.random.default_rng(7)
    x = np.concatenate([rng.normal(size=(30, 4)), rng.normal(size=(50, 4)) + 1e6])
    a, b = Moments.of(x[:30]), Moments.of(x[30:])
    for merged in (a.merge(b), b.merge(a)):
        assert max(errors(merged, naive(x))) < 1e-12


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_order_does_not_matter_for_any_split(data: st.DataObject) -> None:
    n, d = data.draw(st.integers(2, 40)), data.draw(st.integers(1, 6))
    seed = data.draw(st.integers(0, 2**32 - 1))
    offset = data.draw(st.floats(-1e6, 1e6))
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * 10.0 ** rng.integers(-3, 4, d) + offset
    cuts = np.sort(rng.integers(0, n + 1, data.draw(st.integers(0, 6))))
    parts = [Moments.of(p) for p in np.split(x, cuts)]
    forward, backward = merge_all(parts), merge_all(parts[::-1])
    assert forward.n == backward.n == n
    reference = (backward.mean, backward.scatter, backward.third, backward.fourth)
    assert max(errors(forward, reference)) < 1e-12


def test_empty_is_neutral() -> None:
    m = Moments.of(np.random.default_rng(8).normal(size=(5, 3)))
    for merged in (m.merge(Moments.empty(3)), Moments.empty(3).merge(m)):
        assert merged.n == 5
        np.testing.assert_array_equal(merged.scatter, m.scatter)
    assert Moments.of(np.zeros((0, 3))).n == 0


def test_float32_features_are_taken_at_their_exact_value() -> None:
    x = np.random.default_rng(9).normal(size=(60, 5)).astype(np.float32)
    np.testing.assert_array_equal(Moments.of(x).scatter, Moments.of(x.astype(np.float64)).scatter)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused_by_row(bad: float) -> None:
    x = np.zeros((4, 3))
    x[2, 1] = bad
    with pytest.raises(CheckFailed, match=r"image 2 .*NaN or Inf \(1 of 4"):
        Moments.of(x)


def test_moments_of_different_widths_do_not_merge() -> None:
    with pytest.raises(ValueError, match="3 and of 2"):
        Moments.empty(3).merge(Moments.of(np.zeros((1, 2))))
