"""Which cells are the same function: against brute force over all 15,625, and in torch."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from raystill.platform import seeds
from raystill.platform.architectures import cells, parse
from raystill.platform.architectures.cells import EDGES, OPS, Cell, Ops, flow, form
from raystill.platform.architectures.layers import Pool

ALL = list(itertools.product(OPS, repeat=6))


def walk(ops: Ops, x: object, convs: Callable[[int, str, object], object], pool: Callable[[object], object]) -> object:
    """A cell's output, edge by edge as the definition says; None is nothing."""
    nodes: list[object] = [x, None, None, None]
    for k, (op, (i, j)) in enumerate(zip(ops, EDGES)):
        if op == "none" or nodes[i] is None:
            continue
        new = nodes[i] if op == "skip" else pool(nodes[i]) if op == "pool" else convs(k, op, nodes[i])
        nodes[j] = new if nodes[j] is None else nodes[j] + new  # type: ignore[operator]
    return nodes[3]


@pytest.fixture(scope="module")
def fingerprints() -> dict[Ops, object]:
    """Numbers that two cells share where they are one function: moments of the output over all 720 ways in which the
    edges may be given six weights, with generic functions of one number for convolutions and a factor for pooling."""
    w = seeds.numpy_rng(seeds.Address(1, stream="weights")).normal(size=6)[list(itertools.permutations(range(6)))]
    functions = {"conv1": lambda z, k: np.tanh(w[:, k] * z + 0.3), "conv3": lambda z, k: np.sin(w[:, k] * z - 0.2)}
    found: dict[Ops, object] = {}
    for ops in ALL:
        out = walk(ops, np.full(720, 0.7), lambda k, op, z: functions[op](z, k), lambda z: 0.7390851332 * z)  # type: ignore[operator]
        found[ops] = None if out is None else tuple(f"{np.mean(out**p):.9e}" for p in (1, 2, 3))  # type: ignore[operator]
    return found


def test_cells_are_merged_exactly_where_brute_force_finds_one_function(fingerprints: dict[Ops, object]) -> None:
    forms = {ops: form(ops) for ops in ALL}
    assert (
        len(set(forms.values())) == len(set(fingerprints.values())) == len({(forms[o], fingerprints[o]) for o in ALL})
    )


def test_15_625_cells_are_5_043_networks(fingerprints: dict[Ops, object]) -> None:
    here = cells.space()
    texts = {arch.text for arch in here.all()}
    assert here.size == len(ALL) == 15_625
    assert len(texts) == len(set(fingerprints.values())) - 1 == 5_043  # one is nothing at all
    assert None in fingerprints.values()
    assert len({text.partition("@")[0] for text in texts}) == 5_043


def test_the_papers_6_466_come_of_its_rule_on_strings() -> None:
    """NAS-Bench-201, section 2: strings in which a `none` stays a term of its sum."""

    def string(ops: Ops) -> str:
        nodes = ["in"]
        for j in range(1, 4):
            terms = []
            for op, (i, k) in zip(ops, EDGES):
                if k == j:
                    gone = op == "none" or nodes[i] == "#"
                    terms.append("#" if gone else nodes[i] if op == "skip" else f"({nodes[i]})@{op}")
            nodes.append("+".join(sorted(terms)))
        return nodes[3]

    assert len({string(ops) for ops in ALL}) == 6_466


def in_torch(cell: Ops, layers: dict[int, torch.nn.Module], x: Tensor) -> Tensor:
    out = walk(cell, x, lambda k, _, z: layers[k](z), Pool("avg", 3))  # type: ignore[arg-type]
    assert isinstance(out, Tensor)
    return out


@pytest.mark.parametrize("k", range(25))
def test_merged_cells_compute_the_same_outputs(k: int) -> None:
    """A cell edge by edge, with its representative's convolutions on its edges in one of the ways that they fit."""
    rng = seeds.numpy_rng(seeds.Address(2, member=k, stream="cells"))
    classes = cells._classes()
    merged = [o for o in ALL if classes[o] != o and flow(o)[1] and sum(op.startswith("conv") for op in o) <= 4]
    ops = merged[rng.integers(len(merged))]
    with seeds.fixed_global():
        built = Cell(classes[ops], 4).double()
    x = torch.randn(2, 4, 5, 6, generator=seeds.torch_rng(seeds.Address(2, stream="x")), dtype=torch.float64)
    expected = built(x)
    edges = [i for i, op in enumerate(ops) if op.startswith("conv")]
    # an edge that leads nowhere takes what is left over, or nothing
    layers = [*built.convs, *[torch.nn.Identity()] * (len(edges) - len(built.convs))]
    ways = (dict(zip(edges, order)) for order in itertools.permutations(layers))
    assert any(torch.allclose(in_torch(ops, way, x), expected, rtol=1e-10, atol=1e-10) for way in ways)


def test_small_cases_are_merged_as_they_should_be() -> None:
    groups: dict[str, set[str]] = defaultdict(set)
    same = [
        ("conv3-none.none-none.skip.none", "none-conv3.none-none.none.skip", "none-none.none-conv3.none.none"),
        ("skip-none.conv1-pool.none.skip", "pool-conv1.none-none.skip.skip"),
        ("skip-skip.none-none.pool.pool", "skip-none.none-pool.pool.none", "skip-skip.skip-none.none.pool"),
    ]
    for k, texts in enumerate(same):
        for text in texts:
            groups[parse(f"cell:{text}").text].add(str(k))
    assert all(len(group) == 1 for group in groups.values())
    assert len(groups) == len(same)
    # one convolution used twice is not two convolutions
    assert parse("cell:conv3-none.skip-none.skip.skip") != parse("cell:conv3-conv3.none-none.skip.skip")


def test_what_leads_nowhere_is_not_built() -> None:
    shape = (3, 8, 8)
    assert parse("cell:conv3-conv3.none-conv1.none.none").parameters(shape, 10) == parse(
        "cell:none-none.none-conv1.none.none"
    ).parameters(shape, 10)


def test_the_scale_is_part_of_the_text() -> None:
    small, large = (parse(f"cell:conv3-none.none-none.skip.none{end}") for end in ("", "@c16n2"))
    assert small.text.endswith("@c8n1")
    assert large.text.endswith("@c16n2")
    assert small.key != large.key
    assert large.parameters((1, 8, 8), 4) > 4 * small.parameters((1, 8, 8), 4)
