from __future__ import annotations

import threading
from itertools import chain, islice

import numpy as np
import pytest
import torch

from raystill.platform.data import Split
from raystill.platform.data.batches import batches, order
from raystill.platform.seeds import Address

SEED = Address(3, stream="train")
ROWS = np.arange(10)


def drawn(**options) -> list[list[int]]:
    return [batch.tolist() for (batch,) in batches([ROWS], **{"size": 4, "seed": SEED, **options})]


def test_in_the_datas_own_order():
    assert drawn(shuffle=False) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert drawn(shuffle=False, drop_last=True) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_epochs_follow_one_another_without_a_gap():
    rows = list(chain(*drawn(repeat=3)))
    epochs = [rows[0:10], rows[10:20], rows[20:30]]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 3
    assert epochs == [order(10, SEED, epoch).tolist() for epoch in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [len(batch) for batch in drawn(repeat=3)] == [4] * 7 + [2]


def test_the_order_is_a_function_of_the_address():
    assert drawn() == drawn() == drawn(prefetch=0)
    assert drawn() != drawn(seed=SEED.at(member=1))
    assert drawn() != drawn(seed=SEED.at(stream="other"))


def test_for_ever():
    endless = batches([ROWS], size=7, seed=SEED, repeat=None)
    assert [len(batch) for (batch,) in islice(endless, 50)] == [7] * 50
    endless.close()


def test_a_batch_larger_than_an_epoch():
    assert [len(batch) for batch in drawn(size=25, repeat=3)] == [25, 5]


def test_map_sees_whole_batches_and_any_number_of_parts():
    x, y = torch.arange(12.0).reshape(6, 2), np.arange(6)
    pairs = batches([x, y], size=3, seed=SEED, map=lambda a, b: (a * 2, b + 1), device="cpu")
    for a, b in pairs:
        assert torch.equal(a[:, 0], (b - 1) * 4.0)


def test_a_split_is_sliced_too():
    split = Split(np.zeros((5, 1, 2, 2), np.uint8), np.arange(5))
    ((x, y),) = batches(split, size=5, seed=SEED)
    assert x.shape == (5, 1, 2, 2)
    assert sorted(y.tolist()) == [0, 1, 2, 3, 4]


def test_prefetch_stays_ahead_by_no_more_than_asked_and_ends_with_its_reader():
    made = []
    stream = batches([ROWS], size=1, seed=SEED, repeat=None, prefetch=3, map=lambda row: (made.append(1), row)[1:])
    next(stream)
    stream.close()
    assert 1 <= len(made) <= 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_an_error_in_map_reaches_the_reader():
    def broken(row):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        list(batches([ROWS], size=2, seed=SEED, map=broken))


@pytest.mark.parametrize("options", [{"size": 0}, {"repeat": 0}, {"prefetch": -1}, {"size": 11, "drop_last": True}])
def test_options_that_make_no_batch(options):
    with pytest.raises(ValueError, match="batches: "):
        drawn(**options)


def test_parts_of_unequal_or_no_length():
    for parts in ([ROWS, ROWS[:3]], [ROWS[:0]], []):
        with pytest.raises(ValueError, match="of equal number"):
            batches(parts, size=1, seed=SEED)
