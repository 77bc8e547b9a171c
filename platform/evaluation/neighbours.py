"""Nearest neighbours among a small set, distilled or real: a baseline that trains nothing (1811.10959, section 4)."""

from __future__ import annotations

import math

import numpy as np


def _rows(x: np.ndarray) -> np.ndarray:
    """[N, ...] -> float32 [N, D]; uint8 is pixels and becomes pixels / 255, anything else keeps its units."""
    flat = x.reshape(len(x), -1)
    return flat.astype(np.float32) / np.float32(255) if flat.dtype == np.uint8 else flat.astype(np.float32)


def knn_accuracy(
    reference_x: np.ndarray,
    reference_y: np.ndarray,
    query_x: np.ndarray,
    query_y: np.ndarray,
    k: int = 1,
    norm: int = 2,
    chunk: int = 2048,
) -> float:
    """Percentage of queries that the majority of their k nearest references labels correctly.

    Args:
        reference_x: [R, ...] images, distilled or real, in the units of the queries; uint8 is read as pixels / 255.
        reference_y: [R] labels, or soft labels [R, K], of which the largest entry counts.
        query_x, query_y: [Q, ...] images and [Q] labels.
        k: neighbours; a tied vote goes to the smallest label.
        norm: 1 (sum of absolute differences) or 2 (Euclidean).
        chunk: queries at a time, which bounds the memory of float copies.

    Raises:
        ValueError: no queries, fewer references than k, another norm, or images of different sizes.
    """
    from sklearn.neighbors import KNeighborsClassifier

    if not 1 <= k <= len(reference_x):
        raise ValueError(f"k-NN: k is {k}, but there are {len(reference_x)} references")
    if norm not in (1, 2):
        raise ValueError(f"k-NN: norm is {norm}; valid: 1, 2")
    if not len(query_x):
        raise ValueError("k-NN: no queries")
    if math.prod(reference_x.shape[1:]) != math.prod(query_x.shape[1:]):
        raise ValueError(f"k-NN: references are {reference_x.shape[1:]}, queries {query_x.shape[1:]}")
    labels = reference_y.argmax(1) if reference_y.ndim == 2 else reference_y
    # brute force is sklearn's matrix product for norm 2; trees lose beyond a few dozen dimensions
    neighbours = KNeighborsClassifier(k, p=norm, algorithm="brute").fit(_rows(reference_x), labels)
    hits = sum(
        int((neighbours.predict(_rows(query_x[at : at + chunk])) == query_y[at : at + chunk]).sum())
        for at in range(0, len(query_x), chunk)
    )
    return 100.0 * hits / len(query_x)
