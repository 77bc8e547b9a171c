"""What one device holds while it works: the resident data, the networks and the engine, built from a spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from raystill.platform import allocator, learners, registry, starts, synthesis, weights
from raystill.platform.data import DataSet, load
from raystill.platform.data.resident import Resident, resident
from raystill.platform.learners import Learner, pool
from raystill.platform.meta import GRAPH_BYTES, Engine, make_engine
from raystill.platform.meta.linearise import Loss
from raystill.platform.meta.trajectory import slots
from raystill.platform.method import LearnerSpec
from raystill.platform.objectives import OBJECTIVES, TAUGHT, Objective, Out, Step, Term, named, term
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec

Numbers = dict[str, float]
Arrays = dict[str, np.ndarray]


def resolve_auto(spec: DistillSpec, device: str) -> DistillSpec:
    """The spec with every `auto` of the engine decided for a kind of device (measured in docs/results.md)."""
    gpu = device == "cuda"
    choices = {
        "sweep": "reverse",
        "stack": "vmap" if gpu and spec.learner.draw == "none" else "loop",
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


def losses(learner: Learner, objective: Objective, teacher: nn.Module | None = None) -> tuple[Loss, Loss]:
    """(mean, sum) of an objective's per-sample losses as functions of (theta, x, y); the teacher holds still."""

    def per_sample(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        taught = None
        if teacher is not None:
            with torch.no_grad():
                taught = Out(teacher(x))
        return objective(Step(x, y, Out(learner.apply(theta, x)), taught))

    return (lambda theta, x, y: per_sample(theta, x, y).mean()), (lambda theta, x, y: per_sample(theta, x, y).sum())


def outer_objective(spec: DistillSpec, plugins: registry.Plugins | None = None) -> Term:
    """What judges: an objective of labels, or with `outer.teacher` one that asks it.

    Raises:
        ValueError: unknown, or a teacher and an objective that do not go together.
    """
    outer = spec.outer
    if outer.teacher is None and outer.objective in TAUGHT:
        raise ValueError(f"outer.objective: {outer.objective} needs a teacher; set outer.teacher")
    if outer.teacher is None:
        return named(outer.objective, plugins, "outer.objective")
    if outer.objective in OBJECTIVES:
        raise ValueError(f"outer.objective: {outer.objective} asks no teacher; valid with one: {', '.join(TAUGHT)}")
    if outer.objective in TAUGHT:
        return term(TAUGHT[outer.objective](outer.temperature))
    return term(registry.resolve("objectives", outer.objective, {}, plugins, "outer.objective"))


def outer_teacher(spec: DistillSpec, data: DataSet, plugins: registry.Plugins | None = None) -> nn.Module | None:
    """The network that the outer objective asks; None for none.

    Raises:
        ValueError: its file can not be loaded, is not the one that the run was planned with, or it knows other classes
            or images.
    """
    if spec.outer.teacher is None:
        return None
    path, planned = spec.outer.teacher, spec.outer.teacher_content
    if planned is not None and weights.content(path) != planned:
        raise ValueError(
            f"outer.teacher: {path} is not the file that this run began with (sha256 {planned[:12]}); put that back, "
            "or begin a new run with outer.teacher_content none"
        )
    module, facts = weights.load_teacher(path, data.shape, data.mean, data.std, "outer.teacher", plugins)
    if facts["outputs"] != len(data.classes):
        raise ValueError(f"outer.teacher: {path} has {facts['outputs']} classes and the data {len(data.classes)}")
    return module.requires_grad_(False)


@dataclass(frozen=True)
class Problem:
    """A learner with its inner engine and its outer loss, and the classes that this loss wants named otherwise."""

    learner: Learner
    engine: Engine
    total: Loss
    relabels: tuple[tuple[int, int], ...] = ()


class Workbench:
    """Everything that a work item may use, on one device, with one thread on a CPU."""

    def __init__(self, spec: DistillSpec, plugins: registry.Plugins | None = None, data: DataSet | None = None) -> None:
        torch.set_num_threads(1)
        allocator.keep_freed_memory()
        self.spec, self.plugins = spec, plugins
        self.device = torch.device("cuda" if spec.run.device == "cuda" else "cpu")
        self.data = data if data is not None else load(spec.data, plugins)
        self.synthesizer = synthesis.build(spec, self.data.shape, len(self.data.classes), plugins)
        self.problem = lru_cache(maxsize=32)(self._problem)
        self.start = starts.build(spec)
        if spec.meta.memory is not None:
            check_memory(spec, self.problem(spec.learner).learner)

    def _problem(self, learner: LearnerSpec) -> Problem:
        return self.problem_of(learners.build(learner, self.data.shape, len(self.data.classes), self.plugins))

    def problem_of(self, built: Learner) -> Problem:
        """The problem of a learner that is made already: a search has thousands, each for one item."""
        built.module.to(self.device)
        inner = named(self.spec.inner.objective, self.plugins, "inner.objective")
        outer = outer_objective(self.spec, self.plugins)
        mean, total = losses(built, inner)[0], losses(built, outer, self.teacher)[1]
        meta = self.spec.meta
        wrap = torch.compile if meta.compile == "always" else None
        engine = make_engine(mean, meta.sweep, meta.stack, GRAPH_BYTES, wrap, meta.memory, meta.trajectory)
        return Problem(built, engine, total, outer.facts.relabels)

    @cached_property
    def teacher(self) -> nn.Module | None:
        """The network that the outer objective asks, on the device."""
        found = outer_teacher(self.spec, self.data, self.plugins)
        return None if found is None else found.to(self.device)

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

    def learner_of(self, address: Address) -> LearnerSpec:
        """The learner of a member: the spec's, or one that the address draws."""
        return self.draw(address)

    @cached_property
    def draw(self) -> pool.Draw:
        """What the spec draws learners from; what it found out about architectures is kept."""
        return pool.drawing(self.spec.learner, self.data.shape, self._begins_to_learn, self.plugins)

    def _begins_to_learn(self, learner: LearnerSpec) -> bool:
        """A trial on real data; the same for every member, run and evaluator that asks."""
        problem = self.problem(learner)
        return pool.begins_to_learn(
            problem.learner, problem.total, self.train, learner.trial, len(self.data.classes), learner.begun
        )

    def theta0(self, learner: Learner, address: Address) -> Tensor:
        """A member's initial parameters, as the spec's initialisation has them (`platform.starts`)."""
        return self.start(learner, address).to(self.device)
