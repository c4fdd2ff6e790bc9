"""Thresholds on scores of good parts, and what they promise.

Conformal: the k-th smallest of n out-of-sample scores, k = ceil((n + 1)(1 - rate)). A new good part
exceeds it with probability (n + 1 - k) / (n + 1) on average; over calibrations that probability follows
Beta(n + 1 - k, k), whose 95 % quantile is the rate that holds with 95 % confidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edge_ad.errors import CheckFailed

CONFIDENCE = 0.95
CHI2 = "chi2"  # how the method of a promise begins whose threshold is not one of the scores

Share = Annotated[float, Meta(ge=0, le=1)]


class Promise(msgspec.Struct, frozen=True):
    """What a threshold says about false rejects; rates are shares of good parts.

    method: how the scores were made out of sample; parts: how many; target: the rate asked for;
    index: the threshold is the index-th smallest score; expected: mean rate; confident: the rate that
    holds with 95 % confidence; achievable: False when there are too few parts for the target;
    faults: parts among them that are rejected whatever the threshold, as they cannot be judged.
    declared: parts that are fitted besides, but were picked by a person and so say nothing of a rate.
    """

    method: str
    parts: Annotated[int, Meta(ge=1)]
    target: Annotated[float, Meta(gt=0, lt=1)]
    index: int
    expected: Share
    confident: Share
    achievable: bool
    faults: Annotated[int, Meta(ge=0)] = 0
    declared: int = 0


def conformal(scores: NDArray[Any], rate: float, method: str, faults: int = 0) -> tuple[float, Promise]:
    """Threshold for `rate` from out-of-sample scores [n] and parts that are rejected without a score,
    and its promise.

    With too few parts, or too many faults, the highest score is taken and the promise says `achievable =
    False`.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64).ravel())
    n = len(values) + faults
    if not len(values):
        raise CheckFailed("no scores of good parts to set a threshold with; give at least 1 part")
    if not 0.0 < rate < 1.0:
        raise ValueError(f"false-reject rate {rate} is not between 0 and 1")
    if not np.isfinite(values[-1]) or not np.isfinite(values[0]):
        raise CheckFailed("scores of good parts are not all finite; drop the parts that cause it")
    # Parts above the threshold, counting the new one; the 1e-9 undoes the rounding of, say, 100 * 0.29.
    above = math.floor((n + 1) * rate + 1e-9)
    index = min(n + 1 - max(above, 1), len(values))
    promise = Promise(
        method=method,
        parts=n,
        target=rate,
        index=index,
        expected=(n + 1 - index) / (n + 1),
        confident=beta_quantile(CONFIDENCE, n + 1 - index, index),
        achievable=above >= max(1, faults + 1),
        faults=faults,
    )
    return float(values[index - 1]), promise


def counted_as_good(promise: Promise, dropped: int) -> Promise:
    """The promise if `dropped` parts that were left out of the fit were good: false rejects, each of
    them. The threshold stays, so its rate may exceed the target."""
    n = promise.parts + dropped
    above = n + 1 - promise.index
    confident = beta_quantile(CONFIDENCE, above, promise.index) if promise.index else 1.0
    return msgspec.structs.replace(
        promise,
        parts=n,
        expected=above / (n + 1),
        confident=confident,
        achievable=promise.achievable and above <= promise.target * (n + 1) + 1e-9,
    )


def parts_needed(rate: float) -> tuple[int, int]:
    """Parts with which the highest score as threshold gives `rate`: expected, and with 95 % confidence.

    (99, 299) for 0.01. The second is had by asking for the rate 1/300 = 1/(n + 1).
    """
    expected = math.ceil(1.0 / rate - 1e-9) - 1
    return expected, math.ceil(math.log(1.0 - CONFIDENCE) / math.log1p(-rate) - 1e-9)


def promise_text(promise: Promise) -> str:
    """The promise in words, what more parts or another target would buy, and who does not count."""
    return _rates_text(promise) + _declared_text(promise.declared)


def _declared_text(parts: int) -> str:
    if not parts:
        return ""
    were = "more part was" if parts == 1 else "more parts were"
    return (
        f"; {parts} {were} declared good by a person: fitted, but no random sample, so not counted here"
    )


def _rates_text(promise: Promise) -> str:
    expected, confident = parts_needed(promise.target)
    target = percent(promise.target)
    text = (
        f"{promise.parts} parts: {percent(promise.expected)} false rejects expected, "
        f"at most {percent(promise.confident)} with 95 % confidence"
    )
    if promise.faults:
        text += f", of which {promise.faults} cannot be judged (see those skipped for their position)"
    if promise.method.startswith(CHI2):
        return (
            text if promise.achievable else f"{text}; no number of parts moves a chi-squared threshold"
        )
    if promise.faults >= 1 and not promise.achievable:
        return f"{text}; no threshold makes up for those"
    if not promise.achievable:
        text += f"; {expected} parts for {target}"
    if promise.parts < confident:
        text += f"; {confident} for {target} with 95 % confidence"
    elif promise.confident > promise.target:
        rate = confident_rate(promise.parts, promise.target)
        text += f"; ask for --false-reject-rate {rate:.4g} to hold {target} with 95 % confidence"
    return text


def confident_rate(parts: int, target: float) -> float:
    """The highest rate to ask for with which `target` holds with 95 % confidence; needs enough parts."""
    holds, fails = 1, int(target * (parts + 1)) + 1  # parts above the threshold
    while fails - holds > 1:
        middle = (holds + fails) // 2
        if beta_quantile(CONFIDENCE, middle, parts + 1 - middle) <= target:
            holds = middle
        else:
            fails = middle
    # Half a part more, so that rounding for print changes nothing.
    return (holds + 0.5) / (parts + 1)


def percent(share: float) -> str:
    """A share in per cent, with two digits below 10 % and one decimal above: "1.6 %", "99.7 %"."""
    value = 100 * share
    return f"{float(f'{value:.1f}' if value >= 10 else f'{value:.2g}'):g} %"


def beta_quantile(p: float, a: int, b: int) -> float:
    """The p-quantile of Beta(a, b) for positive integers, exactly, by bisection on binomial sums.

    Beta(a, b) <= x has the probability that of a + b - 1 draws with chance x at least a succeed.
    """
    n = a + b - 1
    j = np.arange(a)
    log_choose = np.array([_log_choose(n, int(i)) for i in j])

    def below(x: float) -> float:
        return 1.0 - float(np.exp(log_choose + j * math.log(x) + (n - j) * math.log1p(-x)).sum())

    return _bisect(below, p, 0.0, 1.0)


def chi2_quantile(p: float, k: int) -> float:
    """The p-quantile of the chi-squared law with k degrees of freedom."""
    if not 0.0 < p < 1.0 or k < 1:
        raise ValueError(f"no chi-squared quantile for p = {p}, k = {k}")
    high = float(k) + 1.0
    while chi2_cdf(high, k) < p:
        high *= 2.0
    return _bisect(lambda x: chi2_cdf(x, k), p, 0.0, high)


def chi2_threshold(dims: int, rate: float) -> float:
    """The publication's threshold on the distance d (not squared) of ONE level with `dims` dimensions.

    A sum over levels has no chi-squared law, and with shrinkage one level has it only roughly.
    """
    return math.sqrt(chi2_quantile(1.0 - rate, dims))


def chi2_cdf(x: float, k: int) -> float:
    """P(chi-squared with k degrees of freedom <= x): the regularised incomplete gamma P(k/2, x/2)."""
    a, x = k / 2.0, x / 2.0
    if x <= 0.0:
        return 0.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1.0:
        return front * _gamma_series(a, x)
    return 1.0 - front * _gamma_fraction(a, x)


def _gamma_series(a: float, x: float) -> float:
    """P(a, x) / front, by its power series (Abramowitz and Stegun 6.5.29); for x < a + 1."""
    term = total = 1.0 / a
    denominator = a
    while term > total * 1e-17:
        denominator += 1.0
        term *= x / denominator
        total += term
    return total


def _gamma_fraction(a: float, x: float) -> float:
    """Q(a, x) / front, by its continued fraction (6.5.31, modified Lentz); for x >= a + 1."""
    b = x + 1.0 - a
    c, d = math.inf, 1.0 / b
    h = d
    i = 0
    while True:
        i += 1
        an = -i * (i - a)
        b += 2.0
        d = 1.0 / (an * d + b)
        c = b + an / c
        step = c * d
        h *= step
        if abs(step - 1.0) < 1e-15:
            return h


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _bisect(rising: Callable[[float], float], p: float, low: float, high: float) -> float:
    """Where a rising function reaches p, to the last bit of a float."""
    while True:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            return middle
        if rising(middle) < p:
            low = middle
        else:
            high = middle
