"""Intervals and q-values against scipy and the plain formula."""

import numpy as np
import pytest
from scipy.stats import binomtest

from headatlas.atlas.statistics import benjamini_hochberg, wilson_interval


def test_wilson_intervals_are_those_of_scipy_and_stay_within_0_and_1():
    for n in (1, 7, 40):
        low, high = wilson_interval(np.arange(n + 1) / n, n)
        for hits in range(n + 1):
            expected = binomtest(hits, n).proportion_ci(method="wilson")
            assert (low[hits], high[hits]) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert low[0] >= 0 and high[-1] <= 1


def test_q_values_are_those_of_the_plain_formula():
    p = np.random.default_rng(0).random((3, 5, 7)) ** 3
    ordered = np.sort(p.ravel())
    steps = np.minimum.accumulate((ordered * p.size / np.arange(1, p.size + 1))[::-1])[::-1]
    assert np.allclose(np.sort(benjamini_hochberg(p).ravel()), np.minimum(steps, 1))
