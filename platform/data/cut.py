"""Cutting a decoded source into train, validation and test, by seed and in proportion to the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from raystill.platform.data import DataSet, Split
from raystill.platform.data.modality import Payload
from raystill.platform.data.store import Decoded
from raystill.platform.files.digests import digest
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import DataSpec

_TEST = 0.2  # share of train that becomes test where the source has none


def cut(spec: DataSpec, source: Decoded, payload: Payload | None = None) -> DataSet:
    """Cut a source into the train, validation and test splits of a spec.

    Splits of the source stay views of its memory map; examples drawn from train are copied, in the source's order.

    Raises:
        ValueError: a class that has no training image, at first or after a cut.
    """
    address = Address(spec.split_seed)
    train = source.splits["train"]
    _each_class(train.y, source.classes)
    splits = dict(source.splits)
    rows = np.arange(len(train))
    if "test" not in splits:
        rows, held_out = _hold_out(train.y, rows, _TEST, address.at(stream="test"), source.classes, "data.source")
        splits["test"] = _take(train, held_out)
    if "validation" not in splits:
        held_out = rows[:0]
        if spec.validation > 0:
            at = address.at(stream="split")
            rows, held_out = _hold_out(train.y, rows, spec.validation, at, source.classes, "data.validation")
        splits["validation"] = _take(train, held_out)
    if spec.limit is not None and spec.limit < len(rows):
        if spec.limit < len(source.classes):
            raise ValueError(f"data.limit: {spec.limit} images are fewer than the {len(source.classes)} classes")
        rows = rows[draw(train.y[rows], spec.limit, numpy_rng(address.at(stream="limit")))]
    splits["train"] = _take(train, rows)
    mean, std = source.modality.statistics(splits["train"].x)
    chosen = spec.model_dump(mode="json", include={"validation", "split_seed", "limit", "size"})
    if spec.whiten != "none":
        chosen["whiten"] = spec.whiten
    if payload is not None:
        splits = {name: replace(split, table=payload.table) for name, split in splits.items()}
        chosen[source.modality.name] = payload.fingerprint
    return DataSet(
        name=spec.source,
        classes=source.classes,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        mean=mean,
        std=std,
        fingerprint=digest([source.content, chosen]),
        modality=source.modality,
        payload=payload,
    )


def draw(y: np.ndarray, count: int, rng: np.random.Generator, leave: int = 0) -> np.ndarray:
    """Draw rows in proportion to the class sizes, at least one of each class that occurs.

    Args:
        y: labels [N].
        count: rows to draw, at least the number of classes; `leave` may lower it.
        rng: generator, consumed class by class.
        leave: rows of each class that must remain.

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


def _hold_out(
    y: np.ndarray, rows: np.ndarray, share: float, address: Address, classes: Sequence[str], field: str
) -> tuple[np.ndarray, np.ndarray]:
    # -> (remaining rows, held-out rows); each class has at least one image in both
    sizes = np.bincount(y[rows], minlength=len(classes))
    for name, size in zip(classes, sizes):
        if size < 2:
            raise ValueError(f"{field}: holding out {share:g} of train leaves class {name!r} (images: {size}) empty")
    count = max(len(classes), round(share * len(rows)))
    chosen = draw(y[rows], count, numpy_rng(address), leave=1)
    return np.delete(rows, chosen), rows[chosen]


def _each_class(y: np.ndarray, classes: Sequence[str]) -> None:
    empty = [name for name, size in zip(classes, np.bincount(y, minlength=len(classes))) if size == 0]
    if empty:
        raise ValueError(f"data.source: class {', '.join(map(repr, empty))} has no training image")


def _take(split: Split, rows: np.ndarray) -> Split:
    return split if len(rows) == len(split) else replace(split, x=split.x[rows], y=split.y[rows])
