"""Cutting a decoded source into train, validation and test, by seed and in proportion to the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from raystill.platform.data import DataSet, Split, Text
from raystill.platform.data.store import Decoded
from raystill.platform.files.digests import digest
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import DataSpec

_TEST = 0.2  # share of train that becomes test where the source has none
_FLOOR = 1e-3  # least standard deviation: a channel that is constant is only centred
_CHUNK = 1024


def cut(spec: DataSpec, source: Decoded, text: Text | None = None) -> DataSet:
    """The data set of a spec; `text` says what the ids mean where the source gave texts.

    Splits that the source has stay views of its memory map; what a seed draws from train is copied, in the source's
    order.

    Raises:
        ValueError: a class that has no training image, at first or after a cut.
    """
    address = Address(spec.split_seed)
    train = source.splits["train"]
    _each_class(train.y, source.classes)
    splits = dict(source.splits)
    rows = np.arange(len(train))
    if "test" not in splits:
        rows, held = _hold_out(train.y, rows, _TEST, address.at(stream="test"), source.classes, "data.source")
        splits["test"] = _take(train, held)
    if "validation" not in splits:
        held = rows[:0]
        if spec.validation > 0:
            at = address.at(stream="split")
            rows, held = _hold_out(train.y, rows, spec.validation, at, source.classes, "data.validation")
        splits["validation"] = _take(train, held)
    if spec.limit is not None and spec.limit < len(rows):
        if spec.limit < len(source.classes):
            raise ValueError(f"data.limit: {spec.limit} images are fewer than the {len(source.classes)} classes")
        rows = rows[draw(train.y[rows], spec.limit, numpy_rng(address.at(stream="limit")))]
    splits["train"] = _take(train, rows)
    # word vectors are centred and scaled in their table
    mean, std = normalisation(splits["train"].x) if text is None else ((0.0,), (1.0,))
    chosen = spec.model_dump(mode="json", include={"validation", "split_seed", "limit", "size"})
    if spec.whiten != "none":  # else what it was before there was a choice
        chosen["whiten"] = spec.whiten
    if text is not None:
        splits = {name: replace(split, table=text.table) for name, split in splits.items()}
        chosen["text"] = text.fingerprint
    return DataSet(
        name=spec.source,
        classes=source.classes,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        mean=mean,
        std=std,
        fingerprint=digest([source.content, chosen]),
        text=text,
    )


def draw(y: np.ndarray, count: int, rng: np.random.Generator, leave: int = 0) -> np.ndarray:
    """Rows drawn in proportion to the classes that there are, at least one of each.

    Args:
        y: labels [N].
        count: rows to draw, at least the number of classes; fewer are drawn where `leave` asks for it.
        rng: consumed class by class.
        leave: rows of each class that are not drawn.

    Returns:
        int64 [at most count], ascending.
    """
    present, sizes = np.unique(y, return_counts=True)
    most = sizes - leave
    assert len(present) <= count
    assert most.min() >= 1
    count = min(count, int(most.sum()))
    quota = count * sizes / len(y)
    take = np.clip(np.floor(quota).astype(int), 1, most)
    while (short := count - take.sum()) != 0:  # at most one turn per class
        gap = np.where(take < most, quota - take, -np.inf) if short > 0 else np.where(take > 1, quota - take, np.inf)
        take[np.argmax(gap) if short > 0 else np.argmin(gap)] += np.sign(short)
    chosen = [rng.permutation(np.flatnonzero(y == k))[:n] for k, n in zip(present, take)]
    return np.sort(np.concatenate(chosen))


def normalisation(x: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of x / 255, from exact integer sums; x is uint8 [N, C, H, W]."""
    channels, pixels = x.shape[1], x[:, 0].size
    total, squares = np.zeros(channels, np.int64), np.zeros(channels, np.int64)
    for start in range(0, len(x), _CHUNK):
        piece = x[start : start + _CHUNK].astype(np.int64)
        total += piece.sum((0, 2, 3))
        squares += np.square(piece, out=piece).sum((0, 2, 3))
    sums = [(int(s), int(q)) for s, q in zip(total, squares)]
    mean = tuple(s / (255 * pixels) for s, _ in sums)
    std = tuple(max(_FLOOR, (q * pixels - s * s) ** 0.5 / (255 * pixels)) for s, q in sums)
    return mean, std


def _hold_out(
    y: np.ndarray, rows: np.ndarray, share: float, address: Address, classes: Sequence[str], field: str
) -> tuple[np.ndarray, np.ndarray]:
    # -> rows that stay, rows held out; each class keeps and gives at least one image
    sizes = np.bincount(y[rows], minlength=len(classes))
    for name, size in zip(classes, sizes):
        if size < 2:
            raise ValueError(f"{field}: holding out {share:g} of train leaves class {name!r} (images: {size}) empty")
    count = max(len(classes), round(share * len(rows)))
    held = draw(y[rows], count, numpy_rng(address), leave=1)
    return np.delete(rows, held), rows[held]


def _each_class(y: np.ndarray, classes: Sequence[str]) -> None:
    empty = [name for name, size in zip(classes, np.bincount(y, minlength=len(classes))) if size == 0]
    if empty:
        raise ValueError(f"data.source: class {', '.join(map(repr, empty))} has no training image")


def _take(split: Split, rows: np.ndarray) -> Split:
    return split if len(rows) == len(split) else Split(split.x[rows], split.y[rows])
