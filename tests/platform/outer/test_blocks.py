"""Cutting meta-parameters: nothing is lost, nothing depends on the number of shards."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raystill.platform import seeds
from raystill.platform.outer import blocks, step
from raystill.platform.outer.blocks import BLOCK, Cut

SHAPES = {"images": (3, BLOCK // 2 + 5, 2), "a_rate": (), "labels": (7, 10), "many": (4 * BLOCK,)}


def whole(kind: str = "whole") -> dict[str, np.ndarray]:
    return {
        name: np.asarray(seeds.numpy_rng(seeds.Address(0, stream=f"{kind}/{name}")).normal(size=shape), np.float32)
        for name, shape in SHAPES.items()
    }


MOST = 4 + 1 + 1 + 4


@pytest.mark.parametrize("count", range(1, MOST + 1))
def test_parts_hold_every_number_once_and_join_to_the_whole(count: int) -> None:
    arrays = whole()
    cut = Cut.of(arrays, count)
    parts = cut.split(arrays)
    assert len(parts) == count
    assert sum(a.size for part in parts for a in part.values()) == sum(a.size for a in arrays.values())
    flat = np.concatenate([a for part in parts for a in part.values()])
    assert np.array_equal(flat, np.concatenate([arrays[name].ravel() for name in sorted(arrays)])), "by position"
    joined = cut.join(parts)
    assert {k: v.shape for k, v in joined.items()} == SHAPES
    assert all(joined[name].tobytes() == arrays[name].tobytes() for name in arrays)


@pytest.mark.parametrize("count", range(1, MOST + 1))
def test_parts_are_alike_and_their_blocks_are_those_of_the_whole(count: int) -> None:
    arrays = whole()
    parts = Cut.of(arrays, count).split(arrays)
    assert max(map(len, map(blocks.squares, parts))) - min(map(len, map(blocks.squares, parts))) <= 1
    ordered = {name: arrays[name] for name in sorted(arrays)}
    assert [s for part in parts for s in blocks.squares(part)] == blocks.squares(ordered)
    norm = step.norm_of(blocks.squares(part) for part in parts)
    assert norm == step.norm_of(blocks.squares(part) for part in parts[::-1])
    exact = math.sqrt(math.fsum(float(v) ** 2 for a in arrays.values() for v in a.flat))
    assert norm == pytest.approx(exact, rel=1e-14)


def test_views_of_some_arrays_are_cut_as_all_are() -> None:
    arrays = whole()
    cut, some = Cut.of(arrays, 5), {"many": arrays["many"], "labels": arrays["labels"]}
    assert all(np.shares_memory(a, some[name]) for part in cut.split(some) for name, a in part.items())
    assert {k: v.tobytes() for k, v in cut.join(cut.split(some)).items()} == {k: v.tobytes() for k, v in some.items()}
    assert cut.join(cut.split({})) == {}


def test_more_shards_than_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match=rf"outer\.shards: 11 shards, but .* have 10 blocks .* take 1 to {MOST}"):
        Cut.of(whole(), MOST + 1)
