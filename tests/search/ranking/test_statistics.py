"""Statistics of rankings against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from raystill.platform.seeds import Address, numpy_rng
from raystill.search.ranking import statistics


def drawn(n: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = numpy_rng(Address(n, stream="ranks"))
    a, b = rng.standard_normal(n), rng.standard_normal(n)
    b = a + b
    return (np.round(a, 0), np.round(b, 0)) if ties else (a, b)


@pytest.mark.parametrize("n", [5, 32, 96])
def test_spearman_is_its_closed_form_without_ties(n: int) -> None:
    a, b = drawn(n, False)
    difference = a.argsort().argsort() - b.argsort().argsort()
    assert statistics.spearman(a, b) == pytest.approx(1 - 6 * (difference**2).sum() / (n * (n**2 - 1)))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [5, 32, 96])
def test_kendall_counts_pairs(n: int, ties: bool) -> None:
    a, b = drawn(n, ties)
    i, j = np.triu_indices(n, 1)
    one, other = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    untied = np.sqrt((one != 0).sum() * (other != 0).sum())
    assert statistics.kendall(a, b) == pytest.approx((one * other).sum() / untied)


def test_equal_scores_have_no_correlation() -> None:
    assert np.isnan(statistics.spearman(np.zeros(4), np.arange(4.0)))
    assert np.isnan(statistics.kendall(np.zeros(4), np.arange(4.0)))


def test_top_half_looks_at_the_better_half_by_truth() -> None:
    truth = np.arange(8.0)
    scores = np.array([3, 2, 1, 0, 4, 5, 6, 7.0])
    assert statistics.top_half(scores, truth) == 1.0
    assert statistics.top_half(-scores, truth) == -1.0


def test_precision_and_regret_by_hand() -> None:
    truth = np.arange(20.0)
    scores = truth.copy()
    scores[19], scores[3] = -1, 100
    assert statistics.precision(scores, truth) == 0.5  # picks 3 and 18; the best two are 19 and 18
    assert [statistics.regret(scores, truth, k) for k in (1, 2, 3)] == [16.0, 1.0, 1.0]


def test_ties_are_broken_without_the_truth() -> None:
    truth = np.arange(50.0)
    assert 0 < statistics.regret(np.zeros(50), truth, 1) < 49
    assert statistics.regret(np.zeros(50), truth[::-1].copy(), 1) == 49 - statistics.regret(np.zeros(50), truth, 1)


def test_a_paired_difference_with_itself_is_zero_and_intervals_hold_the_estimate() -> None:
    a, b = drawn(96, False)
    found = statistics.bootstrap([a, a, -a], b, resamples=200)
    assert (found[:, 0] == found[:, 1]).all()
    low, high = statistics.interval(found[:, 0])
    assert low < statistics.spearman(a, b) < high
    # Fisher's interval of a correlation is the oracle of its width
    rho = statistics.spearman(a, b)
    width = np.tanh(np.arctanh(rho) + 1.96 / np.sqrt(93)) - np.tanh(np.arctanh(rho) - 1.96 / np.sqrt(93))
    assert high - low == pytest.approx(width, rel=0.4)


def test_ceiling_and_agreement() -> None:
    truth = np.arange(30.0)
    same = np.stack([truth, truth, truth], 1)
    assert statistics.noise_ceiling(same) == pytest.approx(1.0)
    assert np.isnan(statistics.noise_ceiling(same[:, :1]))
    assert statistics.agreement(-same, same) == pytest.approx(-1.0)


def test_the_pitfall_of_a_wrong_but_steady_truth_is_seen_by_agreement_alone() -> None:
    a, b = drawn(96, False)
    noise = numpy_rng(Address(1, stream="ranks")).standard_normal((96, 3)) * 0.01
    wrong, right = b[:, None] + noise, a[:, None] + noise
    assert statistics.noise_ceiling(wrong) > 0.98
    assert statistics.agreement(wrong, right) < statistics.LEAST


def test_rank_sum_adds_ranks() -> None:
    np.testing.assert_array_equal(statistics.rank_sum(np.array([1, 9.0]), np.array([5, 7.0])), [2, 4])


def test_time_to_best_of_a_perfect_ranker_is_one_training() -> None:
    truth, seconds = np.arange(10.0) * 2, np.full(10, 3.0)
    assert statistics.time_to_best(truth, truth, 1.0, seconds, before=5.0) == 9.0
    random = statistics.time_to_best(None, truth, 0.0, seconds, orders=4000)
    assert random == pytest.approx(3.0 * 11 / 2, rel=0.05)  # the one good of ten is expected at place 5.5
