"""What one device holds while it works: the resident data, the networks and the engine, built from a spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from raystill.platform import allocator, learners, registry, synthesis
from raystill.platform.data import DataSet, load
from raystill.platform.data.resident import Resident, resident
from raystill.platform.learners import Learner
from raystill.platform.meta import GRAPH_BYTES, Engine, make_engine
from raystill.platform.meta.linearise import Loss
from raystill.platform.meta.trajectory import slots
from raystill.platform.objectives import OBJECTIVES, Objective, Out, Step
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec, LearnerSpec

Numbers = dict[str, float]
Arrays = dict[str, np.ndarray]


def resolve_auto(spec: DistillSpec, device: str) -> DistillSpec:
    """The spec with every `auto` of the engine decided for a kind of device (measured in docs/results.md)."""
    gpu = device == "cuda"
    choices = {
        "sweep": "reverse",
        "stack": "vmap" if gpu else "loop",
        "compile": "never",
    }
    auto = {k: v for k, v in choices.items() if getattr(spec.meta, k) == "auto"}
    return spec.model_copy(update={
        "meta": spec.meta.model_copy(update=auto),
        "run": spec.run.model_copy(update={"device": device}),
    })  # fmt: skip


def check_memory(spec: DistillSpec, learner: Learner) -> None:
    """Whether `meta.memory` holds a state of the learner; a run's first item would be late to ask.

    Raises:
        ValueError: it does not; says what one takes.
    """
    members = spec.outer.chunk if spec.meta.stack == "vmap" else 1
    theta = torch.empty(members, learner.size, device="meta")
    slots(spec.meta.memory, (theta, theta) if spec.inner.momentum else (theta,), 1)


def losses(learner: Learner, objective: Objective) -> tuple[Loss, Loss]:
    """(mean, sum) of an objective's per-sample losses as functions of (theta, x, y)."""

    def per_sample(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return objective(Step(x, y, Out(learner.apply(theta, x))))

    return (lambda theta, x, y: per_sample(theta, x, y).mean()), (lambda theta, x, y: per_sample(theta, x, y).sum())


@dataclass(frozen=True)
class Problem:
    """A learner with its inner engine and its outer loss."""

    learner: Learner
    engine: Engine
    total: Loss


class Workbench:
    """Everything that a work item may use, on one device, with one thread on a CPU."""

    def __init__(self, spec: DistillSpec, plugins: registry.Plugins | None = None, data: DataSet | None = None) -> None:
        torch.set_num_threads(1)
        allocator.keep_freed_memory()
        self.spec, self.plugins = spec, plugins
        self.device = torch.device("cuda" if spec.run.device == "cuda" else "cpu")
        self.data = data if data is not None else load(spec.data, plugins)
        self.synthesizer = synthesis.build(spec, self.data.shape, len(self.data.classes), plugins)
        self.problem = lru_cache(maxsize=8)(self._problem)
        if spec.meta.memory is not None:
            check_memory(spec, self.problem(spec.learner).learner)

    def _problem(self, learner: LearnerSpec) -> Problem:
        return self.problem_of(learners.build(learner, self.data.shape, len(self.data.classes), self.plugins))

    def problem_of(self, built: Learner) -> Problem:
        """The problem of a learner that is made already: a search has thousands, each for one item."""
        built.module.to(self.device)
        inner = registry.resolve("objectives", self.spec.inner.objective, OBJECTIVES, self.plugins, "inner.objective")
        outer = registry.resolve("objectives", self.spec.outer.objective, OBJECTIVES, self.plugins, "outer.objective")
        mean, total = losses(built, inner)[0], losses(built, outer)[1]
        meta = self.spec.meta
        wrap = torch.compile if meta.compile == "always" else None
        engine = make_engine(mean, meta.sweep, meta.stack, GRAPH_BYTES, wrap, meta.memory, meta.trajectory)
        return Problem(built, engine, total)

    @cached_property
    def train(self) -> Resident:
        """The training split on the device."""
        return resident(self.data.train, self.data, self.device)

    @cached_property
    def validation(self) -> Resident:
        """The validation split on the device."""
        return resident(self.data.validation, self.data, self.device)

    @cached_property
    def test(self) -> Resident:
        """The test split on the device; only `assess` items ask for it."""
        return resident(self.data.test, self.data, self.device)

    def tensors(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """Arrays of a message as tensors in memory that torch owns (alignment is a part of the bits)."""
        return {k: torch.from_numpy(np.array(v)).clone().to(self.device) for k, v in arrays.items()}

    def theta0(self, learner: Learner, address: Address) -> Tensor:
        """A member's initial parameters: the run's one network for fixed starts, else the address's own."""
        return learner.init(self.start_of(address)).to(self.device)

    def start_of(self, address: Address) -> Address:
        """Where a network's initial parameters are drawn; a stream of its own for training, validation and test."""
        if self.spec.initialisation.kind == "fixed":
            return Address(self.spec.run.seed, stream="theta0")
        return address.at(stream=f"{address.stream}/theta0")
