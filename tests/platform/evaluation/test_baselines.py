"""Oracles: numpy averages, brute-force neighbours, scikit-learn's own k-means; digits as the data."""

from __future__ import annotations

import time
from typing import get_args

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from raystill.platform import seeds
from raystill.platform.data import Split
from raystill.platform.evaluation.neighbours import knn_accuracy
from raystill.platform.evaluation.summary import ahead_by_more_than_spreads, best_share, summary
from raystill.platform.spec import SynthesizerSpec
from raystill.platform.synthesis.selection import BASELINES, as_steps, average_real, kmeans_real, random_real

HERE = seeds.Address(7, stream="baseline")
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def digits() -> Split:
    data = load_digits()
    return Split((data.images[:, None] * (255 / 16)).astype(np.uint8), data.target.astype(np.int64))


def of_class(split: Split, label: int) -> np.ndarray:
    return split.x[split.y == label]


@pytest.mark.parametrize("name", BASELINES)
def test_contract(digits, name):
    make = BASELINES[name]
    x = make(digits, NAMES, 6, HERE)
    assert (x.shape, x.dtype) == ((10, 6, 1, 8, 8), np.float32)
    assert x.min() >= 0
    assert x.max() <= 1
    np.testing.assert_array_equal(x, make(digits, NAMES, 6, HERE))
    assert (x != make(digits, NAMES, 6, HERE.at(member=1))).any()


@pytest.mark.parametrize("name", BASELINES)
def test_a_class_draws_the_same_whatever_the_others_hold(digits, name):
    keep = (digits.y != 0) | (np.cumsum(digits.y == 0) <= 20)
    fewer = Split(digits.x[keep], digits.y[keep])
    whole, cut = (BASELINES[name](split, NAMES, 3, HERE) for split in (digits, fewer))
    np.testing.assert_array_equal(whole[1:], cut[1:])


@pytest.mark.parametrize("name", BASELINES)
def test_too_few_images_name_the_class_its_count_and_what_is_asked(digits, name):
    keep = (digits.y != 7) | (np.cumsum(digits.y == 7) <= 4)
    with pytest.raises(ValueError, match=r"'seven' has 4 training images, but 5 are asked") as caught:
        BASELINES[name](Split(digits.x[keep], digits.y[keep]), NAMES, 5, HERE)
    assert "synthesizer" in str(caught.value)
    assert BASELINES[name](Split(digits.x[keep], digits.y[keep]), NAMES, 4, HERE).shape[1] == 4


def test_every_real_start_of_the_spec_is_a_baseline():
    assert set(BASELINES) == set(get_args(SynthesizerSpec.model_fields["start"].annotation)) - {"noise"}


def test_random_real_draws_distinct_images_of_the_class(digits):
    x = random_real(digits, NAMES, 20, HERE)
    for label in range(10):
        pool = {image.tobytes() for image in of_class(digits, label).astype(np.float32) / np.float32(255)}
        drawn = {image.tobytes() for image in x[label]}
        assert drawn <= pool
        assert len(drawn) == 20


def test_one_average_is_the_mean_of_the_class(digits):
    x = average_real(digits, NAMES, 1, HERE)
    for label in range(10):
        np.testing.assert_allclose(x[label, 0], of_class(digits, label).mean(0) / 255, rtol=1e-6, atol=1e-7)


def test_averages_are_of_disjoint_parts_that_cover_the_class(digits):
    x = average_real(digits, NAMES, 4, HERE)
    for label in range(10):
        images = of_class(digits, label) / 255
        sizes = [len(part) for part in np.array_split(np.arange(len(images)), 4)]
        np.testing.assert_allclose(np.average(x[label], axis=0, weights=sizes), images.mean(0), atol=1e-6)
    images = of_class(digits, 0)
    everything = average_real(digits, NAMES[:1], len(images), HERE)[0]  # parts of one image each: the images themselves
    np.testing.assert_allclose(np.sort(everything.reshape(-1)), np.sort(images.reshape(-1) / 255), atol=1e-6)


def test_centroids_are_fixed_points_of_lloyds_iteration(digits):
    x = kmeans_real(digits, NAMES, 3, HERE)
    for label in (0, 4, 9):
        images = of_class(digits, label).reshape(-1, 64) / 255
        centroids = x[label].reshape(3, 64)
        nearest = ((images[:, None] - centroids) ** 2).sum(2).argmin(1)
        again = np.stack([images[nearest == part].mean(0) for part in range(3)])
        np.testing.assert_allclose(centroids, again, atol=0.02)
        best = KMeans(3, n_init=5, random_state=0).fit(images).inertia_
        assert ((images - centroids[nearest]) ** 2).sum() < 1.1 * best


def test_one_centroid_is_the_class_average(digits):
    np.testing.assert_allclose(kmeans_real(digits, NAMES, 1, HERE), average_real(digits, NAMES, 1, HERE), atol=1e-5)


def test_steps_hold_each_class_per_class_times_over():
    x = np.arange(3 * 4).reshape(3, 4, 1, 1, 1)  # image i of class k is 4 k + i
    steps, labels = as_steps(x, 2)
    assert steps.shape == (2, 6, 1, 1, 1)
    assert labels.dtype == np.int64
    assert labels.tolist() == [[0, 1, 2, 0, 1, 2]] * 2
    assert steps.reshape(2, 6).tolist() == [[0, 4, 8, 1, 5, 9], [2, 6, 10, 3, 7, 11]]
    with pytest.raises(ValueError, match="4 images per class do not divide into 3 steps"):
        as_steps(x, 3)


def brute_force(x: np.ndarray, y: np.ndarray, query: np.ndarray, k: int, norm: int) -> np.ndarray:
    gaps = np.abs(query[:, None].astype(np.float64) - x[None])
    near = ((gaps**norm).sum(2)).argsort(1, kind="stable")[:, :k]
    return np.array([np.bincount(y[row]).argmax() for row in near])


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("norm", [1, 2])
def test_neighbours_equal_brute_force(k, norm):
    rng = seeds.numpy_rng(HERE)
    x, query = rng.random((40, 12)), rng.random((301, 12))
    y, query_y = rng.integers(5, size=40), rng.integers(5, size=301)
    expected = 100 * (brute_force(x, y, query, k, norm) == query_y).mean()
    assert knn_accuracy(x, y, query, query_y, k, norm, chunk=64) == pytest.approx(expected)
    rows = np.eye(5)[y] * 0.7 + 0.1  # soft labels whose largest entry is y
    assert knn_accuracy(x, rows, query, query_y, k, norm) == pytest.approx(expected)


def test_pixels_and_unit_floats_meet(digits):
    x, y = as_steps(average_real(digits, NAMES, 2, HERE), 1)
    mixed = knn_accuracy(x[0], y[0], digits.x, digits.y)
    assert mixed == knn_accuracy(x[0], y[0], digits.x.astype(np.float32) / np.float32(255), digits.y)
    assert mixed > 85  # twenty averages of digits say nearly all; units that differ would say a tenth
    assert knn_accuracy(digits.x, digits.y, digits.x, digits.y) == 100.0


def test_neighbour_errors_are_clear():
    x, y = np.zeros((2, 4)), np.zeros(2, int)
    with pytest.raises(ValueError, match="k is 3, but there are 2 references"):
        knn_accuracy(x, y, x, y, k=3)
    with pytest.raises(ValueError, match="norm is 3; valid: 1, 2"):
        knn_accuracy(x, y, x, y, norm=3)
    with pytest.raises(ValueError, match=r"references are \(4,\), queries \(5,\)"):
        knn_accuracy(x, y, np.zeros((1, 5)), y[:1])
    with pytest.raises(ValueError, match="no queries"):
        knn_accuracy(x, y, x[:0], y[:0])


@pytest.mark.parametrize("norm", [1, 2])
def test_ten_thousand_queries_take_under_a_second(norm):
    rng = seeds.numpy_rng(HERE)
    x, query = rng.random((100, 784), np.float32), rng.random((10_000, 784), np.float32)
    y, query_y = np.arange(100) % 10, np.arange(10_000) % 10
    knn_accuracy(x, y, query[:10], query_y[:10], 3, norm)
    seconds = []
    for _ in range(2):  # the better of two: other processes spoil caches
        start = time.process_time()
        knn_accuracy(x, y, query, query_y, 3, norm)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 1.0


def test_best_share_keeps_the_best_first_and_at_least_one():
    assert best_share([1.0, 9.0, 5.0, 9.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0]) == [1, 3]
    assert best_share([3.0, 4.0], 0.2) == [1]


def test_summary_is_numpys():
    mean, std, n = summary([80.0, 82.0, 87.0])
    assert (mean, n) == (pytest.approx(83.0), 3)
    assert std == pytest.approx(np.sqrt((9 + 1 + 16) / 2))
    assert np.isnan(summary([5.0]).std)
    with pytest.raises(ValueError, match="no values"):
        summary([])


def test_ahead_means_that_the_spreads_do_not_touch():
    assert ahead_by_more_than_spreads(83.0, 1.0, 80.0, 1.9)
    assert not ahead_by_more_than_spreads(83.0, 1.0, 80.0, 2.0)
    assert not ahead_by_more_than_spreads(83.0, float("nan"), 0.0, 0.0)
