"""The micro space of ENAS (1802.03268), as generative teaching networks searched it (1912.07768).

`enas:0conv3.1id-2max3.0avg5-...+...@c8n1`: before `+` the five nodes of the normal cell, behind it those of the
reduction cell; a node is the sum of two operations on sources: 0 and 1 are the outputs of the cell before the last and
of the last, 2 to 6 the nodes. The nodes that no node uses are concatenated to the cell's output. The network is a
stem and three runs of `n` normal cells with reduction cells between. The order of a node's two operations and of the
nodes does not matter: genomes that differ in nothing else are one architecture.
"""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor, nn

from raystill.platform.architectures import pictures, spaces
from raystill.platform.architectures.layers import Head, Pool, conv, norm
from raystill.platform.architectures.parser import Parser, scale
from raystill.platform.learners.networks import Shape

OPS = ("id", "conv1", "conv3", "asym3", "asym7", "max2", "max3", "max5", "avg2", "avg3", "avg5")
NODES = 5

Edge = tuple[int, str]
Cell = tuple[tuple[Edge, Edge], ...]


def halves(genome: spaces.Genome) -> tuple[Cell, Cell]:
    """The normal and the reduction cell of a genome."""
    edges = list(zip(genome[0 : 8 * NODES : 2], genome[1 : 8 * NODES : 2]))
    nodes = list(zip(edges[::2], edges[1::2]))
    return tuple(nodes[:NODES]), tuple(nodes[NODES:])


def unused(nodes: Cell) -> list[int]:
    """The nodes, 2 to 6, that no other node uses."""
    used = {source for node in nodes for source, _ in node}
    return [k for k in range(2, 2 + NODES) if k not in used]


def least(nodes: Cell) -> Cell:
    """The least of all orders of a cell's nodes, with each node's operations in order."""
    orders = []
    for order in itertools.permutations(range(NODES)):
        names = {0: 0, 1: 1, **{2 + i: 2 + k for k, i in enumerate(order)}}
        moved = [sorted((names[source], op) for source, op in nodes[i]) for i in order]
        if all(source < 2 + k for k, node in enumerate(moved) for source, _ in node):
            orders.append(tuple((node[0], node[1]) for node in moved))
    return min(orders)


def canonical(genome: spaces.Genome) -> spaces.Genome:
    """The representative: both cells in their least order."""
    flat = [part for cell in halves(genome) for node in least(cell) for edge in node for part in edge]
    return (*flat, *genome[8 * NODES :])


def write(genome: spaces.Genome) -> str:
    """`0conv3.1id-...+...@c8n1`."""
    cells = ("-".join(".".join(f"{s}{op}" for s, op in node) for node in cell) for cell in halves(genome))
    return f"{'+'.join(cells)}@c{genome[-2]}n{genome[-1]}"


def read(parser: Parser, channels: int, cells: int) -> spaces.Genome:
    """The genome of a text of `write`; without a scale, with the given one. Raises ValueError with the place."""
    parts: list[int | str] = []
    for separator in ("", "+"):
        parser.take(separator)
        for i in range(NODES):
            for dot in ("-" if i else "", "."):
                parser.take(dot)
                parts += [int(parser.word([str(k) for k in range(2 + i)])), parser.word(OPS)]
    return (*parts, *scale(parser, channels, cells))


def _operation(op: str, channels: int, stride: int) -> nn.Module:
    kernel = int(op[-1]) if op != "id" else 1
    if op == "id":
        return nn.Identity() if stride == 1 else Pool("avg", 1, stride)
    if op.startswith("conv"):
        return conv(channels, channels, kernel, stride)
    if op.startswith("asym"):
        wide, high = conv(channels, channels, (1, kernel)), conv(channels, channels, (kernel, 1), stride)
        return nn.Sequential(wide, high)
    return Pool(op[:3], kernel, stride)


class _Cell(nn.Module):
    """(before[B, A, 2H or H, ...], last[B, D, H, W]) -> [B, unused * C, H, W], or half of H and W for a reduction."""

    def __init__(self, nodes: Cell, inputs: tuple[int, int], shrink: bool, channels: int, stride: int) -> None:
        super().__init__()
        self.nodes, self.unused = nodes, unused(nodes)
        self.before = conv(inputs[0], channels, 1, 2 if shrink else 1)  # the cell before the last may be twice as large
        self.last = conv(inputs[1], channels, 1)
        self.ops = nn.ModuleList(
            _operation(op, channels, stride if source < 2 else 1) for node in nodes for source, op in node
        )
        self.channels = channels * len(self.unused)

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        values = [self.before(before), self.last(last)]
        for i, ((a, _), (b, _)) in enumerate(self.nodes):
            values.append(self.ops[2 * i](values[a]) + self.ops[2 * i + 1](values[b]))
        return torch.cat([values[k] for k in self.unused], 1)


class _Network(nn.Module):
    def __init__(self, genome: spaces.Genome, shape: Shape, classes: int) -> None:
        super().__init__()
        normal, reduction = halves(genome)
        channels, runs = genome[-2:]
        self.stem = nn.Sequential(nn.Conv2d(shape[0], channels, 3, padding=1, bias=False), norm(channels))
        plan = [*["n"] * runs, "r", *["n"] * runs, "r", *["n"] * runs]
        cells: list[_Cell] = []
        inputs, shrink = (channels, channels), False
        for kind in plan:
            stride = 2 if kind == "r" else 1
            channels *= stride
            cells.append(_Cell(reduction if kind == "r" else normal, inputs, shrink, channels, stride))
            inputs, shrink = (inputs[1], cells[-1].channels), kind == "r"
        self.cells, self.head = nn.ModuleList(cells), Head(inputs[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        before = last = self.stem(x)
        for cell in self.cells:
            before, last = last, cell(before, last)
        logits: Tensor = self.head(last)
        return logits


def make(genome: spaces.Genome, shape: Shape, classes: int) -> nn.Module:
    """The network: stem, normal cells with two reduction cells that halve the image and double the channels, head."""
    return _Network(genome, shape, classes)


def space(channels: tuple[int, ...] = (8,), cells: tuple[int, ...] = (1,)) -> spaces.Space:
    """The space of these numbers of a node's channels and of cells in each run; the first are a text's defaults."""
    nodes = [(tuple(range(2 + i)), OPS) * 2 for _ in range(2) for i in range(NODES)]
    genes = (*(options for node in nodes for options in node), channels, cells)
    reads = functools.partial(read, channels=channels[0], cells=cells[0])
    return spaces.Space("enas", genes, canonical, write, reads, make, lambda _: 4, pictures.enas, _scaled)


def _scaled(channels: int, cells: int) -> spaces.Space:
    return space((channels,), (cells,))
