"""Starts of learned labels: functions from data and address to rows float32 [M, K].

Of the ten starts of "Soft-Label Dataset Distillation" (1910.02551) these differ in more than scale: one-hot, smoothed,
smoothed by the similarity of classes (its AIDB, the distance between average images), and normal numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from raystill.platform import seeds
from raystill.platform.data import DataSet

Relabels = Sequence[tuple[int, int]]
LabelStart = Callable[[int, DataSet, Relabels, seeds.Address], np.ndarray]
"""(images M, data, the outer objective's relabels, address) -> rows[M, K]."""

SMOOTH = 0.1
"""Share of a label that is spread over the other classes (1910.02551's `smoothed`)."""


def ids(images: int, classes: int, relabels: Relabels = ()) -> np.ndarray:
    """Hard labels int64 [M]: 0..K-1, repeated, then relabelled."""
    class_ids = np.arange(images) % classes
    for k, t in relabels:
        class_ids = np.where(class_ids == k, t, class_ids)
    return class_ids


def one_hot(images: int, classes: int) -> np.ndarray:
    """One-hot rows; with fewer images than classes, row i has equal weights on the classes i, i + images, ..."""
    rows = np.zeros((images, classes), np.float32)
    if images >= classes:
        rows[np.arange(images), ids(images, classes)] = 1.0
    else:
        rows[np.arange(classes) % images, np.arange(classes)] = 1.0
        rows /= rows.sum(1, keepdims=True)
    return rows


def _hard(images: int, data: DataSet, relabels: Relabels, address: seeds.Address) -> np.ndarray:
    return one_hot(images, len(data.classes))


def _wanted(images: int, data: DataSet, relabels: Relabels, address: seeds.Address) -> np.ndarray:
    rows = one_hot(images, len(data.classes))
    for k, t in relabels:
        rows[:, t] += rows[:, k]
        rows[:, k] = 0.0
    return rows


def _smooth(images: int, data: DataSet, relabels: Relabels, address: seeds.Address) -> np.ndarray:
    classes = len(data.classes)
    other = (1 - np.eye(classes, dtype=np.float32)) / (classes - 1)
    rows = one_hot(images, classes)
    return (1 - SMOOTH) * rows + SMOOTH * rows @ other


def likeness(data: DataSet) -> np.ndarray:
    """Similarity of classes [K, K]: 1 / distance of their average images; zero diagonal, rows sum to 1."""
    x = data.train.x
    means = np.stack([x[data.train.y == k].mean(0, dtype=np.float64).ravel() for k in range(len(data.classes))])
    distance = np.sqrt(np.square(means[:, None] - means[None]).sum(-1)) + np.where(np.eye(len(means)), np.inf, 1e-9)
    near = 1.0 / distance
    rows: np.ndarray = (near / near.sum(1, keepdims=True)).astype(np.float32)
    return rows


def _similar(images: int, data: DataSet, relabels: Relabels, address: seeds.Address) -> np.ndarray:
    rows = one_hot(images, len(data.classes))
    return (1 - SMOOTH) * rows + SMOOTH * rows @ likeness(data)


def _noise(images: int, data: DataSet, relabels: Relabels, address: seeds.Address) -> np.ndarray:
    return seeds.numpy_rng(address).standard_normal((images, len(data.classes)), dtype=np.float32)


STARTS: dict[str, LabelStart] = {
    "hard": _hard, "smooth": _smooth, "similar": _similar, "noise": _noise, "wanted": _wanted,
}  # fmt: skip
