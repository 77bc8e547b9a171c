"""Data: sources -> Arrow cache -> tensors, with splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """Examples as they are kept: x uint8 [N, C, H, W], y int64 [N]; may be views of a memory-mapped file."""

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class DataSet:
    """A source cut into splits.

    Attributes:
        name: what the spec called the source.
        classes: class names, in label order.
        mean, std: per channel, of train pixels / 255; the normalisation of every split.
        fingerprint: sha256 hex of the content and of what the cut depends on (size, validation share, seed, limit).
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        c, h, w = self.train.x.shape[1:]
        return c, h, w
