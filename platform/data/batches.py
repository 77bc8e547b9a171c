"""Minibatches: slices, repeat, shuffle, batch, map, prefetch to the device.

The pipeline of `tf.data` in one function. Every order is a function of the seed's address and the epoch alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count

import numpy as np
import torch
from torch import Tensor

from raystill.platform.data import Split
from raystill.platform.seeds import Address, numpy_rng

Batch = tuple[Tensor, ...]


def batches(
    data: Split | Sequence[Tensor | np.ndarray],
    *,
    size: int,
    seed: Address,
    map: Callable[..., Batch] | None = None,
    repeat: int | None = 1,
    shuffle: bool = True,
    drop_last: bool = False,
    device: torch.device | str | None = None,
    prefetch: int = 2,
) -> Iterator[Batch]:
    """Draw batches of examples.

    Each epoch is a permutation of its own; epochs follow one another without a gap, so that only the last batch of all
    can be short.

    Args:
        data: a split, or arrays and tensors that are sliced along their first axis.
        size: examples per batch.
        seed: names the order.
        map: called with the tensors of each batch, before they are moved; torch.func.vmap makes it of a function of one
            example.
        repeat: epochs; none goes on for ever.
        shuffle: a new order in each epoch; else the data's own.
        drop_last: leave out a last batch that is short.
        device: moved there; none leaves each tensor where it is.
        prefetch: batches that are made ahead by a thread; 0 makes each as it is asked for.

    Raises:
        ValueError: nothing to draw from, unequal lengths, or a size that no batch can have.
    """
    parts = (data.x, data.y) if isinstance(data, Split) else tuple(data)
    lengths = {len(part) for part in parts}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"batches: needs one or more examples of equal number, got {sorted(lengths)}")
    (n,) = lengths
    if size < 1 or (repeat is not None and repeat < 1) or prefetch < 0:
        raise ValueError(
            f"batches: size ({size}) and repeat ({repeat}) are at least 1, prefetch ({prefetch}) at least 0"
        )
    if drop_last and repeat is not None and size > n * repeat:
        raise ValueError(f"batches: no batch of {size} in {n * repeat} examples; use drop_last=False")
    target = torch.device(device) if device is not None else None

    def make(rows: np.ndarray) -> Batch:
        batch = tuple(_slice(part, rows) for part in parts)
        batch = batch if map is None else map(*batch)
        return batch if target is None else tuple(_moved(tensor, target) for tensor in batch)

    return _ahead(make, _cut(_epochs(n, seed, repeat, shuffle), size, drop_last), prefetch)


def order(n: int, seed: Address, epoch: int) -> np.ndarray:
    """The permutation of one epoch, int64 [n]."""
    return numpy_rng(seed.at(stream=f"{seed.stream}/epoch {epoch}")).permutation(n)


def _epochs(n: int, seed: Address, repeat: int | None, shuffle: bool) -> Iterator[np.ndarray]:
    for epoch in count() if repeat is None else range(repeat):
        yield order(n, seed, epoch) if shuffle else np.arange(n)


def _cut(epochs: Iterator[np.ndarray], size: int, drop_last: bool) -> Iterator[np.ndarray]:
    rest = np.empty(0, np.int64)
    for rows in epochs:
        rest = np.concatenate([rest, rows])
        whole = len(rest) - len(rest) % size
        yield from rest[:whole].reshape(-1, size)
        rest = rest[whole:]
    if len(rest) and not drop_last:
        yield rest


def _slice(part: Tensor | np.ndarray, rows: np.ndarray) -> Tensor:
    if isinstance(part, Tensor):
        return part[torch.from_numpy(rows).to(part.device)]
    return torch.from_numpy(part[rows])


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    # only pinned memory is copied while the host goes on
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _ahead(make: Callable[[np.ndarray], Batch], rows: Iterator[np.ndarray], prefetch: int) -> Iterator[Batch]:
    if prefetch == 0:
        yield from (make(index) for index in rows)
        return
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    pending: deque[Future[Batch]] = deque()
    try:
        for index in rows:
            pending.append(pool.submit(make, index))
            if len(pending) > prefetch:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:  # also when the caller stops early
        pool.shutdown(wait=True, cancel_futures=True)
