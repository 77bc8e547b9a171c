"""The samples that a student learns from: real data on its device, plain tensors, or a distilled artefact."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from raystill.platform.artifacts.distilled import Distilled
from raystill.platform.data.resident import Resident


class Examples(Protocol):
    """Samples by number; `Resident` is one."""

    def __len__(self) -> int:
        """The number of samples."""

    def batch(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W) as networks take it; y ids (B,), -1 for none, or rows (B, K)."""


class Fixed:
    """Samples as tensors: x (N, ...), y ids (N,) or rows (N, K).

    Raises:
        ValueError: no samples, or not one label for each.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        if not len(x) or len(x) != len(y):
            raise ValueError(f"data: {len(x)} samples and {len(y)} labels; expected one label for each sample")
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """The samples of an index."""
        rows = torch.from_numpy(index).to(self.x.device)
        return self.x[rows], self.y[rows]


class Some:
    """A subset of other samples, with or without their labels."""

    def __init__(self, whole: Examples, rows: np.ndarray, labels: bool = True) -> None:
        self.whole, self.rows, self.labels = whole, rows, labels

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """The samples of an index."""
        x, y = self.whole.batch(self.rows[index])
        if self.labels:
            return x, y
        return x, torch.zeros_like(y) if y.is_floating_point() else torch.full_like(y, -1)


def distilled(data: Distilled, device: torch.device | str = "cpu") -> Fixed:
    """The images of a distilled data set as samples, each once, without the order and rates of its steps."""
    x, y = torch.tensor(data.images, device=device), torch.tensor(data.labels, device=device)
    return Fixed(x.flatten(0, 1), y.flatten(0, 1))


def examples(data: Examples | Resident | Distilled | tuple[Tensor, Tensor]) -> Examples:
    """Convert samples to `Examples`."""
    if isinstance(data, Distilled):
        return distilled(data)
    return Fixed(*data) if isinstance(data, tuple) else data
