"""Class names of distilled labels, and the inner steps that use a step's images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def strongest(label: np.ndarray, classes: Sequence[str], count: int = 2) -> list[tuple[str, float]]:
    """The classes with the highest weights of a soft label [K], highest first."""
    top = np.argsort(-label, kind="stable")[:count]
    return [(name_of(int(k), classes), float(label[k])) for k in top]


def name_of(label: int, classes: Sequence[str]) -> str:
    """The class name of an id, or the id itself where there is no name."""
    return str(classes[label]) if label < len(classes) else str(label)


def uses(order: np.ndarray, step: int) -> np.ndarray:
    """The inner steps that use a step's images, int64 [U]."""
    return np.flatnonzero(order == step)
