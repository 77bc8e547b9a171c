"""Spaces of architectures.

An architecture is named by its canonical text, `space:architecture`, which a spec takes as a learner's name. Two
architectures that are the same function of their weights have the same text.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from raystill.platform import seeds
from raystill.platform.architectures.parser import Parser
from raystill.platform.learners.networks import Shape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Genome = tuple[Any, ...]
ENUMERABLE = 1_000_000
"""The largest number of genomes that `Space.all` lists."""

DRAWS = 1000
"""Draws after which `sample` and `mutate` give up."""


@dataclass(frozen=True)
class Arch:
    """One architecture.

    Attributes:
        text: canonical text; architectures with the same text are the same.
        genome: the option of each choice, for the canonical representative.
        space: the space that it belongs to.
    """

    text: str
    genome: Genome = field(compare=False, repr=False)
    space: Space = field(compare=False, repr=False)

    @property
    def key(self) -> str:
        """16 hexadecimal digits of the text's SHA-256; meta-training excludes evaluated architectures by their keys."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network for images of `shape` (C, H, W): x[B, C, H, W] -> logits[B, K].

        It has no running statistics and changes nothing in place, so it can be differentiated twice and run under vmap.

        Raises:
            ValueError: the images are too small.
        """
        pixels = self.space.pixels(self.genome)
        if min(shape[1:]) < pixels:
            raise ValueError(
                f"architecture {self.text!r} needs images of at least {pixels}x{pixels} pixels, these are "
                f"{shape[1]}x{shape[2]}; set data.size"
            )
        with seeds.fixed_global():
            return self.space.make(self.genome, shape, classes)

    def parameters(self, shape: Shape, classes: int) -> int:
        """The number of learned parameters. Raises ValueError as `build` does."""
        with torch.device("meta"):
            return sum(p.numel() for p in self.build(shape, classes).parameters())

    def flops(self, shape: Shape, classes: int) -> int:
        """FLOPs of the forward pass of one image: two for each multiply-add of convolutions and linear layers.

        Raises ValueError as `build` does.
        """
        total = 0

        def count(layer: nn.Module, _: Any, out: torch.Tensor) -> None:
            nonlocal total
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                total += 2 * out.numel() * layer.weight[0].numel()

        with torch.device("meta"), torch.no_grad():
            network = self.build(shape, classes)
            for layer in network.modules():
                layer.register_forward_hook(count)
            network(torch.zeros(1, *shape))
        return total

    def draw(self) -> Figure:
        """A picture of the architecture."""
        return self.space.picture(self)

    def _repr_svg_(self) -> str:
        """The picture, for notebooks."""
        stream = io.StringIO()
        self.draw().savefig(stream, format="svg")
        return stream.getvalue()


@dataclass(frozen=True)
class Space:
    """A set of architectures: the options of each choice, and pure functions of genomes.

    Attributes:
        name: the first word of its texts.
        genes: the options of each choice.
        canonical: genome -> the representative of all genomes that are the same function; ValueError where they are
            no network.
        write: genome -> text after the colon.
        read: its inverse; also reads whole numbers that are no option of this space.
        make: (genome, shape, classes) -> network.
        pixels: genome -> the least height and width of an image.
        picture: architecture -> matplotlib figure.
        scaled: (channels, cells of each stage) -> the space at that scale, `name@c16n3`; None where it has no scale.
    """

    name: str
    genes: tuple[tuple[Any, ...], ...]
    canonical: Callable[[Genome], Genome]
    write: Callable[[Genome], str]
    read: Callable[[Parser], Genome]
    make: Callable[[Genome, Shape, int], nn.Module]
    pixels: Callable[[Genome], int]
    picture: Callable[[Arch], Figure]
    scaled: Callable[[int, int], Space] | None = None

    @property
    def size(self) -> int:
        """The number of genomes; `all` yields fewer architectures, since some genomes are the same function."""
        return math.prod(len(options) for options in self.genes)

    def arch(self, genome: Genome) -> Arch:
        """The architecture of a genome. Raises ValueError where it is no network."""
        genome = self.canonical(genome)
        return Arch(f"{self.name}:{self.write(genome)}", genome, self)

    def parse(self, text: str) -> Arch:
        """The architecture of a text, canonical or not.

        Raises:
            ValueError: it does not parse (the message names the place), or is no network.
        """
        parser = Parser(text)
        parser.take(f"{self.name}:")
        return self.arch(self.read(parser))

    def sample(self, address: seeds.Address) -> Arch:
        """One architecture, its genome drawn uniformly by the address."""
        rng = seeds.numpy_rng(address)
        for _ in range(DRAWS):
            try:
                return self.arch(tuple(options[rng.integers(len(options))] for options in self.genes))
            except ValueError:  # a genome that is no network; the next draw may be one
                continue
        raise ValueError(f"space: {DRAWS} draws from {self.name} gave no network; widen its options")

    def mutate(self, arch: Arch, address: seeds.Address) -> Arch:
        """Another architecture: one choice of the genome is changed, uniformly, until the function differs."""
        rng = seeds.numpy_rng(address)
        free = [i for i, options in enumerate(self.genes) if len(options) > 1]
        for _ in range(DRAWS if free else 0):
            i = free[rng.integers(len(free))]
            others = [option for option in self.genes[i] if option != arch.genome[i]]
            value = others[rng.integers(len(others))]
            try:
                changed = self.arch((*arch.genome[:i], value, *arch.genome[i + 1 :]))
            except ValueError:
                continue
            if changed != arch:
                return changed
        raise ValueError(f"space: no single change of {arch.text!r} gives another network; widen its options")

    def all(self) -> Iterator[Arch]:
        """Every architecture once, in the order of the genes.

        Raises:
            ValueError: there are too many to list.
        """
        if self.size > ENUMERABLE:
            raise ValueError(f"space: {self.name} has {self.size:.1e} genomes, too many to list; draw from it")
        seen: set[str] = set()
        for genome in itertools.product(*self.genes):
            try:
                arch = self.arch(genome)
            except ValueError:
                continue
            if arch.text not in seen:
                seen.add(arch.text)
                yield arch

    def check(self, shape: Shape) -> None:
        """Check that every architecture fits images of `shape` (C, H, W).

        Raises:
            ValueError: some need larger images.
        """
        pixels = self.pixels(tuple(options[-1] for options in self.genes))
        if min(shape[1:]) < pixels:
            raise ValueError(
                f"space: {self.name} has networks that halve the image {pixels.bit_length() - 1} times and need "
                f"at least {pixels}x{pixels} pixels, these are {shape[1]}x{shape[2]}; set data.size, or another space"
            )
