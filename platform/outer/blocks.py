"""Cuts meta-parameters into shards: by position, into runs of blocks whose sizes do not depend on the shards.

Arrays are laid end to end, flattened, in the order of their names, and each is cut into blocks. A shard owns a run of
blocks. Sums over all positions are taken over each block first; a block's sum is the same in every cut, so results
have the same bits for any number of shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

Arrays = dict[str, np.ndarray]

BLOCK = 1 << 14
"""Numbers of a block: 64 KiB in float32, and a few of them in float64 stay in a core's cache."""


def blocks(size: int) -> Iterator[slice]:
    """The blocks of a flattened array, in order."""
    for start in range(0, max(size, 1), BLOCK):
        yield slice(start, min(start + BLOCK, size))


@dataclass(frozen=True)
class Cut:
    """Named arrays in shards.

    Attributes:
        shapes: (name, shape) of the whole arrays, in the order of their names.
        shards: their number.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    shards: int = 1

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], shards: int = 1) -> Cut:
        """The cut of whole arrays.

        Raises:
            ValueError: there are more shards than blocks.
        """
        cut = cls(tuple((name, arrays[name].shape) for name in sorted(arrays)), shards)
        if shards > (most := len(_all_blocks(cut))):
            raise ValueError(
                f"outer.shards: {shards} shards, but the {sum(a.size for a in arrays.values()):,} meta-parameters "
                f"have {most} blocks of at most {BLOCK:,}; take 1 to {most}"
            )
        return cut

    def split(self, arrays: Mapping[str, np.ndarray]) -> list[Arrays]:
        """Each shard's part of whole arrays, or of some of them: flat views, nothing is copied."""
        return [{name: arrays[name].reshape(-1)[run] for name, run in part.items() if name in arrays}
                for part in _runs(self)]  # fmt: skip

    def join(self, parts: Sequence[Mapping[str, np.ndarray]]) -> Arrays:
        """Whole arrays of all shards' parts; only those that lie in several are copied."""
        pieces_of = {name: [part[name] for part in parts if name in part] for name, _ in self.shapes}
        return {name: (pieces[0] if len(pieces) == 1 else np.concatenate(pieces)).reshape(shape)
                for name, shape in self.shapes if (pieces := pieces_of[name])}  # fmt: skip


def _all_blocks(cut: Cut) -> list[tuple[str, slice]]:
    return [(name, block) for name, shape in cut.shapes for block in blocks(int(np.prod(shape)))]


@lru_cache(8)
def _runs(cut: Cut) -> list[dict[str, slice]]:
    """Each shard's slice of each array: as many blocks as the others, or one more."""
    every, runs = _all_blocks(cut), []
    for k in range(cut.shards):
        run: dict[str, slice] = {}
        for name, block in every[len(every) * k // cut.shards : len(every) * (k + 1) // cut.shards]:
            run[name] = slice(run[name].start if name in run else block.start, block.stop)
        runs.append(run)
    return runs


def squares(arrays: Mapping[str, np.ndarray]) -> list[float]:
    """The sum of squares of each block, in float64."""
    flat = [value.reshape(-1) for value in arrays.values()]
    return [float(np.square(a[block], dtype=np.float64).sum()) for a in flat for block in blocks(a.size)]
