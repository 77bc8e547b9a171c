from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from raystill.platform.data import Raw, load
from raystill.platform.data.cut import draw
from raystill.platform.data.modality.image import statistics
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import DataSpec

Y = np.repeat([0, 1, 2], [120, 60, 20])
# every image is told apart by its pixels: its row, and its label
X = np.stack([np.arange(200, dtype=np.uint8), Y.astype(np.uint8)], -1)[:, None, :]


def cut(**changes):
    own = {"sources": {"mine": lambda spec: Raw({"train": (X, Y)})}}
    return load(DataSpec(source="mine", **changes), plugins=own)


def rows(split) -> list[int]:
    return split.x[:, 0, 0, 0].tolist()


def test_splits_are_disjoint_cover_the_source_and_keep_its_order():
    data = cut(validation=0.25)
    parts = [rows(split) for split in (data.train, data.validation, data.test)]
    assert sorted(chain(*parts)) == list(range(200))
    for part in parts:
        assert part == sorted(part)
    for split in (data.train, data.validation, data.test):
        assert np.array_equal(split.y, split.x[:, 0, 0, 1])
    assert np.bincount(data.test.y).tolist() == [24, 12, 4]
    assert np.bincount(data.validation.y).tolist() == [24, 12, 4]


def test_the_split_is_a_function_of_its_seed():
    one, again, other = cut(), cut(), cut(split_seed=1)
    assert rows(one.train) == rows(again.train)
    assert one.fingerprint == again.fingerprint
    assert rows(one.validation) != rows(other.validation)
    assert rows(one.test) != rows(other.test)


@pytest.mark.parametrize("change", [{"split_seed": 1}, {"validation": 0.2}, {"limit": 50}, {"size": 2}])
def test_the_fingerprint_follows_the_cut(change):
    assert cut(**change).fingerprint != cut().fingerprint


def test_the_limit_draws_from_train_after_the_holdout():
    data, limited = cut(), cut(limit=30)
    assert len(limited.train) == 30
    assert set(rows(limited.train)) < set(rows(data.train))
    assert rows(limited.validation) == rows(data.validation)
    assert np.bincount(limited.train.y).tolist() == [18, 9, 3]
    assert len(cut(limit=10_000).train) == len(data.train)


def test_a_rare_class_is_in_every_split():
    y = np.array([0] * 50 + [1] * 3)
    own = {"sources": {"mine": lambda spec: Raw({"train": (np.zeros((53, 2, 2), np.uint8), y)})}}
    data = load(DataSpec(source="mine"), plugins=own)
    assert [np.bincount(split.y)[1] for split in (data.train, data.validation, data.test)] == [1, 1, 1]


@pytest.mark.parametrize("sizes", [[5, 5, 5], [1, 90, 9], [1, 1, 1, 1000], [7], [3, 2]])
def test_draw_is_proportional_within_one(sizes):
    y = np.repeat(np.arange(len(sizes)), sizes)
    for count in {len(sizes), (len(y) + len(sizes)) // 2, len(y)}:
        drawn = draw(y, count, numpy_rng(Address(count)))
        assert len(drawn) == count == len(set(drawn.tolist()))
        got = np.bincount(y[drawn], minlength=len(sizes))
        quota = count * np.array(sizes) / len(y)
        assert got.min() >= 1
        # what the rare classes get for nothing, the others give
        assert (np.abs(got - quota) < 1 + np.maximum(0, 1 - quota).sum()).all()


def test_normalisation_is_that_of_float64_pixels():
    x = np.random.Generator(np.random.Philox(5)).integers(0, 256, (3000, 3, 7, 5), np.uint8)
    mean, std = statistics(x)
    np.testing.assert_allclose(mean, (x / 255).mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, (x / 255).std((0, 2, 3)), rtol=1e-12)
    assert statistics(np.full((4, 1, 2, 2), 51, np.uint8)) == ((0.2,), (1e-3,))


def test_normalisation_is_of_train_alone():
    data = cut(limit=40)
    assert (data.mean, data.std) == statistics(data.train.x)
