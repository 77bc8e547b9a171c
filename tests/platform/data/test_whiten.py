"""ZCA against its definition: whitened training images have the covariance that the formula says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raystill.platform.data import load
from raystill.platform.data.resident import resident
from raystill.platform.data.whiten import EPSILON, cached, zca
from raystill.platform.seeds import Address
from raystill.platform.spec import DataSpec
from raystill.platform.synthesis import selection


@pytest.fixture
def spec(tmp_path: Path) -> DataSpec:
    return DataSpec(whiten="zca", cache=tmp_path)


def test_whitened_images_have_the_formulas_covariance(spec: DataSpec) -> None:
    data = load(spec)
    x = resident(data.train, data).batch(np.arange(len(data.train)))[0].flatten(1).double().numpy()
    plain = load(spec.model_copy(update={"whiten": "none"}))
    z = resident(plain.train, plain).batch(np.arange(len(plain.train)))[0].flatten(1).double().numpy()
    values, vectors = np.linalg.eigh(np.cov(z.T, bias=True))
    expected = (vectors * (values / (values + EPSILON))) @ vectors.T
    np.testing.assert_allclose(np.cov(x.T, bias=True), expected, atol=1e-4)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-4)


def test_without_a_floor_all_directions_are_alike_and_pixels_stay_where_they_were(spec: DataSpec) -> None:
    data = load(spec)
    centre, matrix = zca(data.train.x, data.mean, data.std, 1e-9)
    z = data.train.x.reshape(len(data.train), -1) / 255
    z = (z - data.mean[0]) / data.std[0]
    live = z.var(0) > 1e-3
    covariance = np.cov(((z - centre) @ matrix).T, bias=True)
    assert np.abs(np.diag(covariance)[live] - 1).max() < 0.05
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-3)


def test_starts_from_real_images_are_in_the_same_units_as_batches(spec: DataSpec) -> None:
    data = load(spec)
    x, _ = selection.normalised_steps("real", data, 1, 10, Address(0, stream="start"))
    all_real = resident(data.train, data).batch(np.arange(len(data.train)))[0]
    for image in x[0]:
        assert (all_real - torch.from_numpy(image)).abs().amax((1, 2, 3)).min() < 1e-4


def test_it_is_kept_and_a_torn_file_is_computed_again(spec: DataSpec, tmp_path: Path) -> None:
    data = load(spec)
    (file,) = tmp_path.glob("*-zca.safetensors")
    assert data.fingerprint in file.name
    assert data.fingerprint != load(spec.model_copy(update={"whiten": "none"})).fingerprint
    whole = file.read_bytes()
    for torn in (whole[:-40], whole[:100] + b"\x00" + whole[101:], b""):
        file.write_bytes(torn)
        assert cached(tmp_path, data.fingerprint) is None
    again = load(spec).whitening
    assert again is not None
    assert data.whitening is not None
    assert all(np.array_equal(a, b) for a, b in zip(again, data.whitening))
    assert file.read_bytes() == whole


def test_images_too_large_are_refused(tmp_path: Path) -> None:
    x = np.zeros((4, 3, 96, 96), np.uint8)
    with pytest.raises(ValueError, match=r"data\.whiten: images of 27648 values are too large"):
        zca(x, (0.5,) * 3, (0.5,) * 3)
