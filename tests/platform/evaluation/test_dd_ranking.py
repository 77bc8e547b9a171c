"""Oracles: the scores' definitions worked out by hand, and their boundary cases."""

from __future__ import annotations

import inspect
import math

import pytest

from raystill.platform.evaluation.dd_ranking import (
    TRAININGS,
    augmentation_robust_score,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)

NO_DIFFERENCE = 100 * (1 - 1 / math.e) / (math.e - 1 / math.e)


def test_differences_are_percentage_points():
    assert hard_label_recovery(full_hard=99.0, syn_hard=80.0) == pytest.approx(19.0)
    assert improvement_over_random(syn_any=80.0, random_any=64.5) == pytest.approx(15.5)
    assert improvement_over_random(syn_any=60.0, random_any=64.5) == pytest.approx(-4.5)


def test_label_robust_score_by_hand():
    # IOR 20, HLR 10 points: a = 0.5 * 0.2 - 0.5 * 0.1 = 0.05; e^0.05 = 1.0512711, e^-1 = 0.3678794, e = 2.7182818
    assert label_robust_score(full_hard=95, syn_hard=85, syn_any=85, random_any=65) == pytest.approx(29.0763, abs=1e-3)
    # w = 0.25: a = 0.05 - 0.075 = -0.025; e^-0.025 = 0.9753099
    assert label_robust_score(95, 85, 85, 65, weight=0.25) == pytest.approx(25.8441, abs=1e-3)


def test_augmentation_robust_score_by_hand():
    # differences 10 and 30 points: b = 0.2; e^0.2 = 1.2214028
    score = augmentation_robust_score(syn_augmented=80, random_augmented=70, syn_plain=80, random_plain=50)
    assert score == pytest.approx(36.3144, abs=1e-3)
    # gamma = 1 looks at the augmented difference only: b = 0.1; e^0.1 = 1.1051709
    assert augmentation_robust_score(80, 70, 80, 50, weight=1.0) == pytest.approx(31.3694, abs=1e-3)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_bounds_are_zero_and_a_hundred(weight):
    assert augmentation_robust_score(100, 0, 100, 0, weight) == pytest.approx(100.0)
    assert augmentation_robust_score(0, 100, 0, 100, weight) == pytest.approx(0.0)
    assert augmentation_robust_score(70, 70, 60, 60, weight) == pytest.approx(NO_DIFFERENCE)
    assert label_robust_score(80, 80, 70, 70, weight) == pytest.approx(NO_DIFFERENCE)


def test_worst_labels_score_zero():
    assert label_robust_score(full_hard=100, syn_hard=0, syn_any=0, random_any=100) == pytest.approx(0.0)


def test_score_of_means_is_below_the_mean_of_scores():
    rounds = [label_robust_score(95, 85, any_, 50) for any_ in (60.0, 90.0)]
    assert label_robust_score(95, 85, 75, 50) < sum(rounds) / 2


@pytest.mark.parametrize("wrong", [-0.1, 100.1, math.nan, math.inf])
def test_accuracies_that_are_no_percentages_are_named(wrong):
    with pytest.raises(ValueError, match="random_any"):
        label_robust_score(95, 85, 85, wrong)
    with pytest.raises(ValueError, match="syn_plain"):
        augmentation_robust_score(80, 70, wrong, 50)


@pytest.mark.parametrize("weight", [-0.01, 1.01, math.nan])
def test_weights_outside_the_unit_interval_are_errors(weight):
    with pytest.raises(ValueError, match="weight"):
        label_robust_score(95, 85, 85, 65, weight)


@pytest.mark.parametrize("score", [label_robust_score, augmentation_robust_score])
def test_every_accuracy_that_a_score_takes_has_its_training(score):
    assert set(inspect.signature(score).parameters) - {"weight"} <= set(TRAININGS)
