"""The order of examples: one permutation an epoch, a function of the seed's address and the epoch alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from raystill.platform.seeds import Address, numpy_rng


def order(n: int, seed: Address, epoch: int) -> np.ndarray:
    """The permutation of one epoch, int64 [n]."""
    return numpy_rng(seed.at(stream=f"{seed.stream}/epoch {epoch}")).permutation(n)


class Order:
    """Batches of `size` rows, cut from the permutations of successive epochs; any step can be read."""

    def __init__(self, count: int, size: int, seed: Address) -> None:
        self._count, self._size, self._seed = count, size, seed
        self._epoch = lru_cache(maxsize=2)(lambda epoch: order(count, seed, epoch))

    def rows(self, step: int) -> np.ndarray:
        """int64 [size] of a step."""
        at, left, parts = step * self._size, self._size, []
        while left:
            epoch, start = divmod(at, self._count)
            parts.append(self._epoch(epoch)[start : start + left])
            at, left = at + len(parts[-1]), left - len(parts[-1])
        return np.concatenate(parts)
