"""A split that lives on the device: uint8 or token ids in one tensor, made numbers as batches are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raystill.platform.data import DataSet, Split


@dataclass(frozen=True)
class Resident:
    """A split on one device.

    Attributes:
        x: uint8 [N, C, H, W]; of texts token ids, int32 [N, L].
        y: int64 [N].
        mean, std: float32 [C, 1, 1], of pixels / 255.
        whitening: float32 [D] and [D, D], where images are whitened.
        table: of texts, the vector of each word, float32 [V, D].
    """

    x: Tensor
    y: Tensor
    mean: Tensor
    std: Tensor
    whitening: tuple[Tensor, Tensor] | None = None
    table: Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)

    def features(self, x: Tensor) -> Tensor:
        """What k-NN compares: the numbers of an example x[..., C, H, W], or the mean vector of a text's tokens."""
        return x if self.table is None else x.mean(-2)

    def batch(self, index: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        """The examples of an index of any shape [...].

        Returns:
            x float32 [..., C, H, W], normalised, channels last where there are several, and [..., 1, L, D] of texts; y
            int64 [...].
        """
        index = torch.as_tensor(index, dtype=torch.int64, device=self.x.device)
        flat = index.reshape(-1)
        if self.table is not None:
            x = self.table[self.x[flat]].unsqueeze(1)
            return x.unflatten(0, index.shape) if index.ndim != 1 else x, self.y[index]
        layout = torch.channels_last if self.x.shape[1] > 1 else torch.contiguous_format
        x = self.x[flat].to(torch.float32, memory_format=layout)
        x = x.div_(255).sub_(self.mean).div_(self.std)
        if self.whitening is not None:
            centre, matrix = self.whitening
            x = ((x.flatten(1) - centre) @ matrix).reshape(x.shape).contiguous(memory_format=layout)
        return x.unflatten(0, index.shape) if index.ndim != 1 else x, self.y[index]


def resident(split: Split, dataset: DataSet, device: torch.device | str = "cpu") -> Resident:
    """A split of a data set in memory that torch owns, on a device."""

    def owned(array: np.ndarray) -> Tensor:
        # a view of the map would leave page faults, and its alignment, in every batch
        return torch.tensor(array, device=device)

    def channel(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]

    table = None if split.table is None else owned(split.table)
    whitening = None if dataset.whitening is None else (owned(dataset.whitening[0]), owned(dataset.whitening[1]))
    return Resident(owned(split.x), owned(split.y), channel(dataset.mean), channel(dataset.std), whitening, table)
