from __future__ import annotations

import numpy as np
import pytest
import torch

from raystill.platform.data import Raw, load
from raystill.platform.data.resident import resident
from raystill.platform.spec import DataSpec


@pytest.fixture(params=[1, 3])
def data(request):
    x = np.random.Generator(np.random.Philox(6)).integers(0, 256, (30, 5, 4, request.param), np.uint8)
    own = {"sources": {"mine": lambda spec: Raw({"train": (x, np.arange(30) % 3)})}}
    return load(DataSpec(source="mine", validation=0), plugins=own)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_a_batch_is_normalised_pixels(data, kind):
    rows = [3, 0, 7, 7]
    x, y = resident(data.train, data, "cpu").batch(kind(rows))
    mean, std = (np.array(v)[:, None, None] for v in (data.mean, data.std))
    np.testing.assert_allclose(x, (data.train.x[rows] / 255 - mean) / std, atol=1e-5)
    assert x.dtype == torch.float32
    assert y.tolist() == data.train.y[rows].tolist()
    assert y.dtype == torch.int64
    if x.shape[1] > 1:
        assert x.is_contiguous(memory_format=torch.channels_last)


def test_an_index_of_any_shape(data):
    kept = resident(data.train, data, "cpu")
    index = torch.arange(6).reshape(2, 3)
    x, y = kept.batch(index)
    assert x.shape == (2, 3, *data.shape)
    for i in range(2):
        one, label = kept.batch(index[i])
        assert torch.equal(x[i], one)
        assert torch.equal(y[i], label)


def test_memory_is_torchs_own(data):
    kept = resident(data.train, data, "cpu")
    assert not np.shares_memory(kept.x.numpy(), data.train.x)
    kept.x[0] = 0  # a view of the map would be read-only
    kept.y[0] = 0
    assert len(kept) == len(data.train)
