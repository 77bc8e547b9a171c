"""Data: sources -> Arrow cache -> tensors, with splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from raystill.platform.data.raw import Portion, Raw, Stored

if TYPE_CHECKING:
    from raystill.platform.registry import Plugins
    from raystill.platform.spec import DataSpec

__all__ = ["DataSet", "Portion", "Raw", "Split", "Stored", "load"]


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
        whitening: mean [D] and matrix [D, D] that normalised images are whitened by, where the spec asks for it.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    whitening: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        c, h, w = self.train.x.shape[1:]
        return c, h, w

    def units(self, x: np.ndarray) -> np.ndarray:
        """Pixels / 255, float32 [..., C, H, W], in the units that networks learn from."""
        mean, std = (np.asarray(v, np.float32)[:, None, None] for v in (self.mean, self.std))
        normalised: np.ndarray = (x - mean) / std
        if self.whitening is None:
            return normalised
        from raystill.platform.data.whiten import whitened

        return whitened(normalised, self.whitening)


def load(spec: DataSpec, plugins: Plugins | None = None, progress: Callable[[int, int], None] | None = None) -> DataSet:
    """From a source to a data set, through the Arrow cache.

    Args:
        spec: which data, and how they are cut.
        plugins: the caller's own parts; `{"sources": {name: function of a DataSpec that returns a Raw}}`.
        progress: called with (images decoded, images in all) where the cache lacks them.

    Raises:
        ValueError: anything that is the user's to mend; one line that names the field, the place and what is valid.
    """
    # here, so that what only needs the contract starts without pyarrow and torch
    from raystill.platform.data.cut import cut
    from raystill.platform.data.sources import cache_folder, find
    from raystill.platform.data.store import decoded

    found = cut(spec, decoded(find(spec, plugins), spec.size, cache_folder(spec), progress))
    if spec.whiten == "none":
        return found
    from raystill.platform.data.whiten import kept, zca

    cache = cache_folder(spec)
    whitening = kept(cache, found.fingerprint)
    if whitening is None:
        whitening = kept(cache, found.fingerprint, zca(found.train.x, found.mean, found.std))
    return replace(found, whitening=whitening)
