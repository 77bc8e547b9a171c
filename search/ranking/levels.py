"""Levels of ground truth: which architectures, on which data, trained by which fixed protocol."""

from __future__ import annotations

from dataclasses import dataclass

from raystill.platform import registry
from raystill.platform.architectures import Arch, space
from raystill.platform.seeds import Address
from raystill.platform.spec import DataSpec

STREAM = "ground truth"


@dataclass(frozen=True)
class Protocol:
    """SGD with momentum and a cosine to zero, on minibatches of shuffled passes over the training split.

    Attributes:
        steps: minibatches.
        batch: images of each.
        lr: learning rate of the first.
    """

    steps: int
    batch: int = 64
    lr: float = 0.05
    momentum: float = 0.9

    def __str__(self) -> str:
        return f"sgd steps={self.steps} batch={self.batch} lr={self.lr:g} momentum={self.momentum:g} cosine xavier"


@dataclass(frozen=True)
class Level:
    """One table of ground truth: `count` architectures of a space, `seeds` networks of each."""

    space: str
    data: DataSpec
    count: int
    seeds: int
    protocol: Protocol

    def architectures(self) -> list[Arch]:
        """The level's architectures, distinct, the same at every call."""
        return sample(self.space, self.count, STREAM)

    def keys(self) -> frozenset[str]:
        """Hashes of the level's architectures: meta-training must not see these."""
        return frozenset(arch.key for arch in self.architectures())


LEVELS: dict[str, Level] = {
    "mnist": Level("macro", DataSpec(source="mnist", size=14), 96, 3, Protocol(768)),
    "cifar": Level("macro", DataSpec(source="cifar10", size=16), 96, 3, Protocol(1536)),
    "cells": Level("cell", DataSpec(source="cifar10", size=16), 64, 2, Protocol(768)),
    "digits": Level("macro", DataSpec(), 12, 2, Protocol(64)),
}
"""`digits` checks the plumbing in seconds and says nothing of quality."""


def level(name: str) -> Level:
    """A level by its name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in LEVELS:
        raise ValueError(f"search.level: unknown {name!r}; {registry.nearest(name, LEVELS)}")
    return LEVELS[name]


def sample(name: str, count: int, stream: str, without: frozenset[str] = frozenset()) -> list[Arch]:
    """`count` distinct architectures of the space `name`.

    Args:
        stream: of the random draws.
        without: hashes of architectures to leave out.

    Raises:
        ValueError: the space has too few.
    """
    archs: dict[str, Arch] = {}
    for step in range(200 * count):
        arch = space(name).sample(Address(0, step=step, stream=stream))
        if arch.key not in without:
            archs.setdefault(arch.text, arch)
        if len(archs) == count:
            return list(archs.values())
    raise ValueError(f"space: {name} gave {len(archs)} of {count} distinct architectures; ask for fewer")
