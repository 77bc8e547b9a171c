"""The order of batches: permutations without a gap, named by an address."""

from __future__ import annotations

import numpy as np

from raystill.platform.data.order import Order, order
from raystill.platform.seeds import Address

SEED = Address(3, stream="order")


def rows(size: int, steps: int, seed: Address = SEED) -> list[int]:
    return np.concatenate([Order(10, size, seed).rows(step) for step in range(steps)]).tolist()


def test_epochs_follow_one_another_without_a_gap() -> None:
    epochs = [rows(4, 8)[at : at + 10] for at in (0, 10, 20)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 3
    assert epochs == [order(10, SEED, epoch).tolist() for epoch in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_order_is_a_function_of_the_address_and_any_step_can_be_read_first() -> None:
    assert Order(10, 4, SEED).rows(6).tolist() == rows(4, 7)[-4:]
    assert rows(4, 2) != rows(4, 2, SEED.at(member=1))
    assert rows(4, 2) != rows(4, 2, SEED.at(stream="other"))


def test_a_batch_may_be_larger_than_an_epoch() -> None:
    assert rows(25, 1) == rows(5, 5)
