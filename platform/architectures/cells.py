"""A cell space in the manner of NAS-Bench-201 (2001.00326): four nodes, an operation on each of the six edges.

`cell:conv3-none.skip-conv1.pool.none@c8n1` names the operations on the edges into node 1 (from 0), node 2 (from 0
and 1) and node 3 (from 0, 1 and 2); a node is the sum of its edges. The network has a stem of `c` channels and three
stages of `n` cells, with a residual block that halves the image and doubles the channels between stages.

Two of the 15,625 cells are the same function where exact rules say so: `none` adds nothing, and nothing is what an
operation makes of nothing; `skip` is the identity; average pooling is linear; the order of sums, the names of nodes and
of convolutions, and what does not reach the output do not matter. Two convolutions of the same input are two, since
their weights differ. That leaves 5,043 cells, and the empty one, which is refused. (The 6,466 of the paper come of a
rule on strings: it tells a sum from the same sum with a `none` in it, and does not tell one convolution used twice from
two convolutions.)
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter, defaultdict

from torch import Tensor, nn

from raystill.platform.architectures import pictures, spaces
from raystill.platform.architectures.layers import Head, Pool, Residual, conv, norm
from raystill.platform.architectures.parser import Parser, scale
from raystill.platform.learners.networks import Shape

OPS = ("none", "skip", "pool", "conv1", "conv3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
INPUT = -1

Ops = tuple[str, ...]
Value = tuple[tuple[tuple[int, int], int], ...]  # ((base, times pooled), times added); a base: INPUT or a convolution
Flow = tuple[tuple[tuple[str, Value], ...], Value]  # the convolutions that reach the output, with inputs; the output


def flow(ops: Ops) -> Flow:
    """The function of a cell: its convolutions, in an order of computation, and its output, as sums of pooled bases."""
    nodes: list[Counter[tuple[int, int]]] = [Counter({(INPUT, 0): 1}), Counter(), Counter(), Counter()]
    convs: list[tuple[str, Value]] = []
    for op, (i, j) in zip(ops, EDGES):
        if op == "none" or not nodes[i]:
            continue
        if op.startswith("conv"):
            convs.append((op, tuple(sorted(nodes[i].items()))))
            nodes[j][len(convs) - 1, 0] += 1
        else:
            for (base, power), times in nodes[i].items():
                nodes[j][base, power + (op == "pool")] += times
    out = tuple(sorted(nodes[3].items()))
    alive: list[int] = []
    ahead = [out]
    while ahead:
        for (base, _), _ in ahead.pop():
            if base != INPUT and base not in alive:
                alive.append(base)
                ahead.append(convs[base][1])
    names = {INPUT: INPUT, **{base: k for k, base in enumerate(sorted(alive))}}
    return tuple((op, _renamed(v, names)) for op, v in (convs[b] for b in sorted(alive))), _renamed(out, names)


def _renamed(value: Value, names: dict[int, int]) -> Value:
    return tuple(sorted(((names[base], power), times) for (base, power), times in value))


def form(ops: Ops) -> tuple[object, ...]:
    """A normal form, equal for two cells exactly if they are the same function: the least renaming of convolutions.

    Only convolutions that look alike from the input's side can change places, so there are few renamings to try.
    """
    return _form(*flow(ops))


@functools.cache
def _form(convs: tuple[tuple[str, Value], ...], out: Value) -> tuple[object, ...]:
    looks: list[str] = []
    for op, value in convs:
        terms = sorted(("" if b == INPUT else looks[b], power, times) for (b, power), times in value)
        looks.append(f"{op}{terms}")
    alike: dict[str, list[int]] = defaultdict(list)
    for i, look in enumerate(looks):
        alike[look].append(i)
    groups = [alike[look] for look in sorted(alike)]
    forms = []
    for orders in itertools.product(*(itertools.permutations(group) for group in groups)):
        order = [i for group in orders for i in group]
        names = {INPUT: INPUT, **{i: k for k, i in enumerate(order)}}
        forms.append((tuple(_renamed(convs[i][1], names) for i in order), _renamed(out, names)))
    return (tuple(sorted(looks)), min(forms))


@functools.cache
def _classes() -> dict[Ops, Ops]:
    """Each cell's representative: the first cell, in the order of the operations, that is the same function."""
    first: dict[tuple[object, ...], Ops] = {}
    return {ops: first.setdefault(form(ops), ops) for ops in itertools.product(OPS, repeat=len(EDGES))}


def canonical(genome: spaces.Genome) -> spaces.Genome:
    """The representative of a genome. Raises ValueError where nothing reaches the output."""
    ops = _classes()[genome[:6]]
    if not flow(ops)[1]:
        raise ValueError(
            f"architecture 'cell:{write(genome)}': nothing reaches the cell's output; open a way to node 3"
        )
    return (*ops, *genome[6:])


def write(genome: spaces.Genome) -> str:
    """`conv3-none.skip-conv1.pool.none@c8n1`."""
    a, b, c, d, e, f, channels, cells = genome
    return f"{a}-{b}.{c}-{d}.{e}.{f}@c{channels}n{cells}"


def read(parser: Parser, channels: int, cells: int) -> spaces.Genome:
    """The genome of a text of `write`; without a scale, with the given one. Raises ValueError with the place."""
    ops = []
    for separator in ("", "-", ".", "-", ".", "."):
        parser.take(separator)
        ops.append(parser.word(OPS))
    return (*ops, *scale(parser, channels, cells))


class Cell(nn.Module):
    """A cell: x[B, C, H, W] -> the same shape. Convolutions that do not reach the output are left out."""

    def __init__(self, ops: Ops, channels: int) -> None:
        super().__init__()
        self.flow = flow(ops)
        self.convs = nn.ModuleList(conv(channels, channels, int(op[-1])) for op, _ in self.flow[0])
        self.pool = Pool("avg", 3)

    def _sum(self, value: Value, bases: dict[int, Tensor]) -> Tensor:
        # pooling is linear: terms are added before they are pooled together
        total: Tensor | None = None
        for power in range(max(p for (_, p), _ in value), -1, -1):
            total = None if total is None else self.pool(total)
            for (base, p), times in value:
                if p == power:
                    term = bases[base] if times == 1 else times * bases[base]
                    total = term if total is None else total + term
        assert total is not None
        return total

    def forward(self, x: Tensor) -> Tensor:
        bases = {INPUT: x}
        for i, (layer, (_, value)) in enumerate(zip(self.convs, self.flow[0])):
            bases[i] = layer(self._sum(value, bases))
        return self._sum(self.flow[1], bases)


def make(genome: spaces.Genome, shape: Shape, classes: int) -> nn.Module:
    """The network: stem, three stages of cells with residual blocks between, head."""
    *ops, channels, cells = genome
    layers: list[nn.Module] = [nn.Conv2d(shape[0], channels, 3, padding=1, bias=False), norm(channels)]
    for stage in range(3):
        if stage:
            layers.append(Residual(channels, 2 * channels))
            channels *= 2
        layers += [Cell(tuple(ops), channels) for _ in range(cells)]
    return nn.Sequential(*layers, Head(channels, classes))


def space(channels: tuple[int, ...] = (8,), cells: tuple[int, ...] = (1,)) -> spaces.Space:
    """The space of these numbers of stem channels and of cells in each stage; the first are a text's defaults."""
    genes = (*[OPS] * len(EDGES), channels, cells)
    reads = functools.partial(read, channels=channels[0], cells=cells[0])
    return spaces.Space("cell", genes, canonical, write, reads, make, lambda _: 4, pictures.cell, _scaled)


def _scaled(channels: int, cells: int) -> spaces.Space:
    return space((channels,), (cells,))
