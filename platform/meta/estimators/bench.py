"""The inputs of an estimator: the problem of each member, its first weights, its real minibatches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from raystill.platform.data.resident import Resident
from raystill.platform.learners import Learner
from raystill.platform.meta.engine import Engine
from raystill.platform.meta.unroll import MetaGradient, Steps
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import DistillSpec, LearnerSpec
from raystill.platform.training import Loss


class Problem(Protocol):
    """A learner, the engine of its inner loss, and its outer loss: the sum over samples of (theta, x, y)."""

    @property
    def learner(self) -> Learner: ...
    @property
    def engine(self) -> Engine: ...
    @property
    def total(self) -> Loss: ...


class Bench(Protocol):
    """The training data, learners and engines on one device; `platform.work.workbench.Workbench` is one."""

    spec: DistillSpec

    @property
    def train(self) -> Resident:
        """The real training data."""
        ...

    @property
    def problem(self) -> Callable[[LearnerSpec], Problem]:
        """The problem of a learner."""
        ...

    def learner_of(self, address: Address) -> LearnerSpec:
        """The learner of a member."""
        ...

    def theta0(self, learner: Learner, address: Address) -> Tensor:
        """A member's first weights [P], on the device."""
        ...


Estimator = Callable[[Bench, Steps, Sequence[Address]], list[MetaGradient]]
"""(bench, steps, one address for each member) -> the meta-gradient of each member."""


def real(bench: Bench, address: Address, size: int, stream: str = "real") -> tuple[Tensor, Tensor]:
    """A real minibatch of a member, or with `outer.batch: shared` of all members (1811.10959, Algorithm 1).

    Args:
        size: images, all of the training data at most.
        stream: of the draw; different streams give different minibatches.

    Returns:
        x [size, C, H, W] in normalised units and y [size].
    """
    address = address.at(stream=stream, **({"member": 0} if bench.spec.outer.batch == "shared" else {}))
    count = len(bench.train)
    index = numpy_rng(address).choice(count, min(size, count), replace=False, shuffle=False)
    return bench.train.batch(index)
