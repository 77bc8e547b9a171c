"""Baselines at a distilled set's budget: m images a class, selected from real ones or averaged.

The baselines of "Dataset Distillation" (Wang et al. 2018, 1811.10959, section 4), as pure functions of a training split
and an address; synthesizers start from them too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from raystill.platform import seeds
from raystill.platform.data import DataSet, Split

_PIECE = 512  # examples that are summed at a time
_MOST = 2**26  # numbers in memory for k-means

Baseline = Callable[[Split, Sequence[str], int, seeds.Address], np.ndarray]
"""(train, class names in label order, images per class m, address) -> x float32 [K, m, C, H, W], pixels / 255."""


def _members(train: Split, classes: Sequence[str], label: int, count: int) -> np.ndarray:
    """Rows of one class, in file order."""
    rows = np.flatnonzero(train.y == label)
    if len(rows) < count:
        raise ValueError(
            f"synthesizer: class {classes[label]!r} has {len(rows)} training images, but {count} are asked for "
            "(images per class of all steps); take fewer steps or images per class, or start from noise"
        )
    return rows


def enough(train: Split, classes: Sequence[str], count: int) -> None:
    """Raise a ValueError that names the class where one has fewer than `count` images."""
    for label in range(len(classes)):
        _members(train, classes, label, count)


def _rng(address: seeds.Address, label: int) -> np.random.Generator:
    # a stream for each class: its draws do not depend on the number of images of others
    return seeds.numpy_rng(address.at(stream=f"{address.stream}/class/{label}"))


def random_real(train: Split, classes: Sequence[str], count: int, address: seeds.Address) -> np.ndarray:
    """Draw real images without replacement.

    Args:
        train: real images; only drawn ones are read from a memory-mapped split.
        classes: class names, in label order.
        count: images of each class, over all steps.
        address: of the draw.

    Returns:
        x[K, count, C, H, W], float32, pixels / 255.

    Raises:
        ValueError: a class has fewer than `count` images.
    """

    def draw(label: int) -> np.ndarray:
        rows = _rng(address, label).choice(_members(train, classes, label, count), count, replace=False)
        return train.values(rows)

    return np.stack([draw(label) for label in range(len(classes))])


def average_real(train: Split, classes: Sequence[str], count: int, address: seeds.Address) -> np.ndarray:
    """Average each of `count` random disjoint parts of equal size (+-1) of each class.

    Args: as of `random_real`, and so Returns and Raises.
    """

    def mean(rows: np.ndarray) -> np.ndarray:
        rows = np.sort(rows)
        if train.modality.average:
            return train.modality.average(train.x[rows], train.table)
        # in pieces: the vectors of all words of a class can take gigabytes
        pieces = (
            train.values(rows[at : at + _PIECE]).sum(axis=0, dtype=np.float64) for at in range(0, len(rows), _PIECE)
        )
        return (sum(pieces) / len(rows)).astype(np.float32)

    def parts(label: int) -> np.ndarray:
        rows = _rng(address, label).permutation(_members(train, classes, label, count))
        return np.stack([mean(part) for part in np.array_split(rows, count)])

    return np.stack([parts(label) for label in range(len(classes))])


def kmeans_real(train: Split, classes: Sequence[str], count: int, address: seeds.Address) -> np.ndarray:
    """k-means centroids of each class, started by k-means++ from the address.

    Args: as of `random_real`, and so Returns and Raises.
    """
    # imported here: scikit-learn is slow to import, and starts from noise do not need it
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    def centroids(label: int) -> np.ndarray:
        rows = _members(train, classes, label, count)
        most = max(count, _MOST // math.prod(train.shape))
        if len(rows) > most:  # as many as fit into memory
            rows = np.sort(_rng(address, label).choice(rows, most, replace=False))
        x = train.values(rows)
        seed = int(_rng(address, label).integers(2**31))
        fit = KMeans(count, n_init=1, random_state=seed).fit(x.reshape(len(x), -1))
        centres = fit.cluster_centers_
        if train.modality.bounds:  # sklearn centres the data and shifts back, which can leave a pixel at -1e-7
            centres = centres.clip(*train.modality.bounds)
        return centres.astype(np.float32).reshape(count, *x.shape[1:])

    # the number of threads would change the order of sums
    with threadpool_limits(1):
        return np.stack([centroids(label) for label in range(len(classes))])


BASELINES: dict[str, Baseline] = {"real": random_real, "average": average_real, "kmeans": kmeans_real}


def as_steps(x: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Arrange images, sorted by class, as inner steps with hard labels.

    Args:
        x: [K, S * per_class, ...], by class.
        steps: S.

    Returns:
        x[S, M, ...] and y[S, M] int64 with M = per_class * K; the labels of a step are 0..K-1, per_class
        times; step s has the images s * per_class .. (s + 1) * per_class - 1 of each class.

    Raises:
        ValueError: the images of a class do not divide into the steps.
    """
    classes, count = x.shape[:2]
    if count % steps:
        raise ValueError(f"synthesizer.steps: {count} images per class do not divide into {steps} steps")
    per_class = count // steps
    out = x.reshape(classes, steps, per_class, *x.shape[2:]).swapaxes(0, 1).swapaxes(1, 2)
    labels = np.tile(np.arange(classes, dtype=np.int64), (steps, per_class))
    return np.ascontiguousarray(out).reshape(steps, per_class * classes, *x.shape[2:]), labels


def normalised_steps(
    name: str, data: DataSet, steps: int, images: int, address: seeds.Address, only: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A baseline's images as normalised inner steps.

    Args:
        name: key of `BASELINES`.
        data: real data; its training split is used.
        steps: S.
        images: M, of each step.
        address: of the draws.
        only: the classes to use; None for all.

    Returns:
        x[S, M, C, H, W] and hard labels y[S, M].

    Raises:
        ValueError: a class has too few images.
    """
    labels = sorted(range(len(data.classes)) if only is None else only)
    train, names = data.train, [data.classes[k] for k in labels]
    if only is not None:
        rows = np.flatnonzero(np.isin(train.y, labels))
        train = replace(train, x=train.x[rows], y=np.searchsorted(labels, train.y[rows]))
    x = BASELINES[name](train, names, steps * -(-images // len(labels)), address)
    x, y = as_steps(data.units(x), steps)
    return np.ascontiguousarray(x[:, :images]), np.asarray(labels)[y[:, :images]]
