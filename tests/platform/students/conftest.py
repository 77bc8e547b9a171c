"""A problem that a small network learns in a moment."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from raystill.platform import seeds

SHAPE, K, N = (1, 6, 6), 4, 96
AT = seeds.Address(2, stream="students")


class Problem(NamedTuple):
    """Images x (N, 1, 6, 6) and their classes y (N,), told apart by which corner is bright."""

    x: Tensor
    y: Tensor


@pytest.fixture
def problem() -> Problem:
    y = torch.arange(N) % K
    x = 0.5 * torch.randn(N, *SHAPE, generator=seeds.torch_rng(AT))
    for i, k in enumerate(y):
        x[i, 0, 3 * (k // 2) : 3 * (k // 2) + 3, 3 * (k % 2) : 3 * (k % 2) + 3] += 1
    return Problem(x, y)


def network(member: int = 0, width: int = 8, outputs: int = K, dropout: float = 0.0) -> nn.Module:
    """A perceptron of two hidden layers: 1 and 4 are linear, 2 and 5 their rectifiers, 7 the head."""
    with seeds.global_at(AT.at(member=member)):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(36, width), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, outputs),
        )  # fmt: skip
