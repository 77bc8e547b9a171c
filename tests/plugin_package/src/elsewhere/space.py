"""A small space: perceptrons of one hidden layer, named `tiny:w8-tanh`."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure
from torch import nn

from raystill.platform.architectures import Arch, Space
from raystill.platform.architectures.parser import Parser

WIDTHS, ACTIVATIONS = (4, 8), {"tanh": nn.Tanh, "relu": nn.ReLU}


def read(parser: Parser) -> tuple[Any, ...]:
    """The genome of a text behind the colon; widths to 64. Raises ValueError with the place."""
    parser.take("w")
    width = parser.number(64)
    parser.take("-")
    activation = parser.word(ACTIVATIONS)
    parser.end()
    return width, activation


def make(genome: tuple[Any, ...], shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network of a genome."""
    width, activation = genome
    return nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(shape), width), ACTIVATIONS[activation](), nn.Linear(width, classes)
    )


def picture(arch: Arch) -> Figure:
    """The text alone."""
    figure = Figure(figsize=(3, 1))
    figure.text(0.5, 0.5, arch.text, ha="center")
    return figure


TINY = Space(
    name="tiny",
    genes=(WIDTHS, tuple(ACTIVATIONS)),
    canonical=lambda genome: genome,
    write=lambda genome: "w{}-{}".format(*genome),
    read=read,
    make=make,
    pixels=lambda genome: 1,
    picture=picture,
)
