"""How a distilled set is judged: what evaluators are asked to do, and the constants that every assessment shares.

The options here are those of the kinds of work in `platform.work.assessing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from raystill.platform.seeds import Address
from raystill.platform.spec import LearnerSpec

RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MOMENTA = (0.0, 0.9)
"""Constant inner rates among which validation chooses for a set that has learned none."""
TUNING_NETWORKS = 3
"""Networks, each on a set of its own, that choose the rates."""
ROUNDS = 3
"""Rounds of DD-Ranking's scores."""
FULL_STEPS, FULL_RATE = 2500, 0.01
"""Least minibatches of 64 and the rate of training on all real data."""

Split = Literal["train", "validation", "test"]
Handle = Any
"""Arrays, wherever they are: only `Evaluators` look inside."""


@dataclass(frozen=True)
class Rates:
    """Learning rate and momentum, the same at every step."""

    lr: float
    momentum: float

    def __str__(self) -> str:
        return f"lr {self.lr:g}, momentum {self.momentum:g}"


@dataclass(frozen=True)
class TrainNetworkOptions:
    """How a network is trained on a small set, and on which split it is evaluated.

    Attributes:
        limit: evenly spaced examples of the split; None takes all.
        rates: constant rates in place of learned ones.
        learner: another network than the run's.
        hard: train on each label row's largest entry.
        augment: shift the images.
    """

    split: Split
    limit: int | None = None
    rates: Rates | None = None
    learner: LearnerSpec | None = None
    hard: bool = False
    augment: bool = False


@dataclass(frozen=True)
class UntrainedOptions:
    """The split that an untrained network is evaluated on."""

    split: Split


@dataclass(frozen=True)
class TrainFullOptions:
    """Passes over the real training split, the rate at the start, and the split for evaluation."""

    epochs: int
    lr: float
    split: Split


@dataclass(frozen=True)
class RealSetOptions:
    """A baseline of `synthesis.selection`, and whether only classes that the outer objective relabels are used."""

    name: str
    victims: bool = False


@dataclass(frozen=True)
class NearestOptions:
    """Number of neighbours, l1 or l2 distance, and the split that is labelled."""

    k: int
    norm: Literal[1, 2]
    split: Split


@dataclass(frozen=True)
class LabelOptions:
    """None: the inputs say all."""


class Answer(NamedTuple):
    """What one item gave: numbers, the handle of its arrays, and its CPU seconds."""

    numbers: Mapping[str, float]
    arrays: Handle
    cpu_seconds: float


class Evaluators(Protocol):
    """Where items are computed."""

    def put(self, arrays: Mapping[str, np.ndarray]) -> Handle:
        """Arrays as a handle that items take as input."""

    def fetch(self, handle: Handle) -> Mapping[str, np.ndarray]:
        """The arrays behind a handle."""

    def run(self, kind: str, options: Any, name: str, items: Sequence[tuple[Address, Handle]]) -> list[Answer]:
        """Do items of a kind with the same options; answers are in their order.

        Args:
            name: tells them apart from others of the same kind, options and addresses.
            items: address and inputs of each.
        """
