"""The field's baselines at a distilled set's own budget: what m real images a class are worth, chosen or averaged.

Each baseline is a pure function of a real training split and an address. The synthesizer's starts are the same
functions. The list is that of "Dataset Distillation" (Wang et al. 2018, 1811.10959, section 4): random real, optimised
real, k-means, average real, and nearest neighbours on the distilled and on the real sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from raystill.platform import seeds
from raystill.platform.data import DataSet, Split

_PIECE = 512  # examples that are summed at a time
_MOST = 2**26  # numbers that k-means may hold

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
    """Raises ValueError, naming the class, where one has fewer than `count` images."""
    for label in range(len(classes)):
        _members(train, classes, label, count)


def _rng(address: seeds.Address, label: int) -> np.random.Generator:
    # a stream for each class: what one class draws does not depend on how many images another has
    return seeds.numpy_rng(address.at(stream=f"{address.stream}/class/{label}"))


def random_real(train: Split, classes: Sequence[str], count: int, address: seeds.Address) -> np.ndarray:
    """Real images drawn without replacement.

    Args:
        train: real images; read only where drawn, so a memory-mapped split stays on disk.
        classes: class names, in label order.
        count: images of each class, over all steps.
        address: where the draw is used; another address gives another draw.

    Returns:
        x[K, count, C, H, W], float32, pixels / 255.

    Raises:
        ValueError: a class has fewer images than asked for.
    """

    def draw(label: int) -> np.ndarray:
        rows = _rng(address, label).choice(_members(train, classes, label, count), count, replace=False)
        return train.values(rows)

    return np.stack([draw(label) for label in range(len(classes))])


def average_real(train: Split, classes: Sequence[str], count: int, address: seeds.Address) -> np.ndarray:
    """Class averages: each class is cut into `count` random disjoint parts of equal size (+-1), each averaged.

    One image per class is the average of the whole class. Args, Returns and Raises as for `random_real`.
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

    Args, Returns and Raises as for `random_real`.
    """
    # scikit-learn is slow to import, and evaluators that start from noise never need it
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    def centroids(label: int) -> np.ndarray:
        rows = _members(train, classes, label, count)
        most = max(count, _MOST // math.prod(train.shape))
        if len(rows) > most:  # centroids of as many as fit into memory
            rows = np.sort(_rng(address, label).choice(rows, most, replace=False))
        x = train.values(rows)
        seed = int(_rng(address, label).integers(2**31))
        fit = KMeans(count, n_init=1, random_state=seed).fit(x.reshape(len(x), -1))
        centres = fit.cluster_centers_
        if train.modality.bounds:  # sklearn centres the data and shifts back, which can leave a pixel at -1e-7
            centres = centres.clip(*train.modality.bounds)
        return centres.astype(np.float32).reshape(count, *x.shape[1:])

    # sums are split by thread: more threads on another machine would be other bits
    with threadpool_limits(1):
        return np.stack([centroids(label) for label in range(len(classes))])


BASELINES: dict[str, Baseline] = {"real": random_real, "average": average_real, "kmeans": kmeans_real}


def as_steps(x: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Arrange images by class as inner steps with hard labels.

    Args:
        x: [K, S * per_class, ...], by class.
        steps: S.

    Returns:
        x[S, M, ...] and y[S, M] int64 with M = per_class * K; within a step the labels are 0..K-1, per_class times
        over. Step s holds images s * per_class .. of each class.

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
    """A baseline's set as inner steps: x[steps, images, C, H, W], normalised as the data is, and hard y[steps, images].

    Args:
        only: classes to take images of, in place of all.

    Raises:
        ValueError: a class has fewer images than asked for.
    """
    labels = sorted(range(len(data.classes)) if only is None else only)
    train, names = data.train, [data.classes[k] for k in labels]
    if only is not None:
        rows = np.flatnonzero(np.isin(train.y, labels))
        train = replace(train, x=train.x[rows], y=np.searchsorted(labels, train.y[rows]))
    x = BASELINES[name](train, names, steps * -(-images // len(labels)), address)
    x, y = as_steps(data.units(x), steps)
    return np.ascontiguousarray(x[:, :images]), np.asarray(labels)[y[:, :images]]
