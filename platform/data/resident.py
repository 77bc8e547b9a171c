"""A split in device memory, in its stored form; batches become float32 as they are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raystill.platform.data import DataSet, Split
from raystill.platform.data.modality import IMAGE, Modality


@dataclass(frozen=True)
class Resident:
    """A split on one device.

    Attributes:
        x: [N, ...], as the modality stores examples.
        y: int64 [N].
        mean, std: float32 [C, 1, 1], of the numbers of training examples.
        whitening: mean float32 [D] and matrix [D, D], or None.
        modality: kind of the examples.
        table: the vector of each stored id, float32 [V, D].
    """

    x: Tensor
    y: Tensor
    mean: Tensor
    std: Tensor
    whitening: tuple[Tensor, Tensor] | None = None
    modality: Modality = IMAGE
    table: Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)

    def features(self, x: Tensor) -> Tensor:
        """The features of examples x[..., C, H, W] that k-NN compares."""
        return self.modality.features(x)

    def batch(self, index: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        """The examples of an index of any shape [...].

        Returns:
            x float32 [..., C, H, W], normalised, images channels last where there are several; y int64 [...].
        """
        index = torch.as_tensor(index, dtype=torch.int64, device=self.x.device)
        flat = index.reshape(-1)
        x: Tensor = self.modality.numbers(self.x[flat], self.table).sub_(self.mean).div_(self.std)
        if self.whitening is not None:
            centre, matrix = self.whitening
            layout = torch.channels_last if x.shape[1] > 1 else torch.contiguous_format
            x = ((x.flatten(1) - centre) @ matrix).reshape(x.shape).contiguous(memory_format=layout)
        return x.unflatten(0, index.shape) if index.ndim != 1 else x, self.y[index]


def resident(split: Split, dataset: DataSet, device: torch.device | str = "cpu") -> Resident:
    """Copy a split of a data set into torch's own memory on a device."""

    def owned(array: np.ndarray) -> Tensor:
        # a view of the memory map would page-fault in every batch, and its alignment is not torch's
        return torch.tensor(array, device=device)

    def channel(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]

    table = None if split.table is None else owned(split.table)
    whitening = None if dataset.whitening is None else (owned(dataset.whitening[0]), owned(dataset.whitening[1]))
    mean, std = channel(dataset.mean), channel(dataset.std)
    return Resident(owned(split.x), owned(split.y), mean, std, whitening, split.modality, table)
