"""A macro space of ConvNets: depth, width, kernel, pooling, norm, activation and head.

`macro:d3-w16-x2-k3-max-group-relu-gap` is three blocks of a 3x3 convolution, 16 channels doubled after each block,
group norm, ReLU and max-pooling, and a head on the global average. With one block the doubling does not matter, so the
864 genomes are 720 networks.
"""

from __future__ import annotations

from torch import Tensor, nn

from raystill.platform.architectures import pictures, spaces
from raystill.platform.architectures.layers import norm
from raystill.platform.architectures.parser import Parser
from raystill.platform.learners.networks import MaxPool2, Shape

POOLS, NORMS, ACTIVATIONS, HEADS = ("max", "avg", "stride"), ("none", "group"), ("relu", "tanh"), ("gap", "fc")


class _Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def canonical(genome: spaces.Genome) -> spaces.Genome:
    """The representative of a genome: a single block has growth 1."""
    depth, width, growth, *rest = genome
    return (depth, width, growth if depth > 1 else 1, *rest)


def write(genome: spaces.Genome) -> str:
    """`d3-w16-x2-k3-max-group-relu-gap` of (depth, width, growth, kernel, pooling, norm, activation, head)."""
    return "d{}-w{}-x{}-k{}-{}-{}-{}-{}".format(*genome)


def read(parser: Parser) -> spaces.Genome:
    """The genome of a text of `write`, with depths to 12 and widths to 1024. Raises ValueError with the place."""
    numbers = []
    for letter, most in (("d", 12), ("-w", 1024)):
        parser.take(letter)
        numbers.append(parser.number(most))
    parser.take("-x")
    numbers.append(int(parser.take("1", "2")))
    parser.take("-k")
    numbers.append(int(parser.take("1", "3", "5", "7")))
    words = []
    for options in (POOLS, NORMS, ACTIVATIONS, HEADS):
        parser.take("-")
        words.append(parser.word(options))
    parser.end()
    return (*numbers, *words)


def pixels(genome: spaces.Genome) -> int:
    """The least side of an image: each block halves it."""
    return 2 ** int(genome[0])


def make(genome: spaces.Genome, shape: Shape, classes: int) -> nn.Module:
    """The network: blocks of convolution (with bias if there is no norm), norm, activation, pooling; then the head."""
    depth, width, growth, kernel, pool, kind, activation, head = genome
    layers: list[nn.Module] = []
    (channels, h, w), out = shape, width
    for _ in range(depth):
        layers.append(nn.Conv2d(channels, out, kernel, 2 if pool == "stride" else 1, kernel // 2, bias=kind == "none"))
        if kind == "group":
            layers.append(norm(out))
        layers.append(nn.ReLU() if activation == "relu" else nn.Tanh())
        if pool != "stride":
            layers.append(MaxPool2() if pool == "max" else nn.AvgPool2d(2))
        h, w = ((h + 1) // 2, (w + 1) // 2) if pool == "stride" else (h // 2, w // 2)
        channels, out = out, out * growth
    layers.append(_Mean() if head == "gap" else nn.Flatten())
    layers.append(nn.Linear(channels * (1 if head == "gap" else h * w), classes))
    return nn.Sequential(*layers)


def space(
    depths: tuple[int, ...] = (1, 2, 3), widths: tuple[int, ...] = (4, 8, 16), kernels: tuple[int, ...] = (3, 5)
) -> spaces.Space:
    """The space of some depths, widths (channels of the first block) and kernels, each in rising order."""
    genes = (depths, widths, (1, 2), kernels, POOLS, NORMS, ACTIVATIONS, HEADS)
    return spaces.Space("macro", genes, canonical, write, read, make, pixels, pictures.macro)
