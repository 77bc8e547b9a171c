"""What one device holds while it works: the resident data, the networks and the engine, built from a spec."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from raystill.platform import learners, registry, synthesis
from raystill.platform.data import DataSet, load
from raystill.platform.data.resident import Resident, resident
from raystill.platform.evaluation.protocol import Split
from raystill.platform.initialisation import starts
from raystill.platform.learners import Learner, drawing
from raystill.platform.meta import GRAPH_BYTES, estimators, make_engine, optimisers
from raystill.platform.objectives import of_labels, of_outer
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec, LearnerSpec
from raystill.platform.work import allocator
from raystill.platform.work.problem import Problem, check_memory, losses, outer_teacher

Numbers = dict[str, float]
Arrays = dict[str, np.ndarray]
Inputs = Mapping[str, np.ndarray]


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
        self.estimator = estimators.estimator(spec.meta, plugins)
        self.optimiser = optimisers.resolve(spec.inner, plugins)
        self.start = starts.build(spec, plugins)
        if spec.meta.memory is not None:
            check_memory(spec, self.problem(spec.learner).learner, plugins)

    def _problem(self, learner: LearnerSpec) -> Problem:
        return self.problem_of(learners.build(learner, self.data.shape, len(self.data.classes), self.plugins))

    def problem_of(self, built: Learner) -> Problem:
        """The problem of a learner that is made already: a search has thousands, each for one item."""
        built.module.to(self.device)
        inner = of_labels(self.spec.inner.objective, self.plugins, "inner.objective")
        outer = of_outer(self.spec.outer, self.plugins)
        mean, total = losses(built, inner)[0], losses(built, outer, self.teacher)[1]
        meta = self.spec.meta
        wrap = torch.compile if meta.compile == "always" else None
        engine = make_engine(
            mean, meta.mode, meta.stack, GRAPH_BYTES, wrap, meta.memory, meta.trajectory, self.optimiser
        )
        return Problem(built, engine, total, outer.facts.relabels)

    @cached_property
    def teacher(self) -> nn.Module | None:
        """The network that the outer objective asks, on the device."""
        teacher = outer_teacher(self.spec, self.data, self.plugins)
        return None if teacher is None else teacher.to(self.device)

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

    def split(self, name: Split) -> Resident:
        """A split on the device, by its name."""
        data: Resident = getattr(self, name)
        return data

    def tensors(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """Arrays of a message as tensors in memory that torch owns (alignment is a part of the bits)."""
        return {k: torch.from_numpy(np.array(v)).clone().to(self.device) for k, v in arrays.items()}

    def learner_of(self, address: Address) -> LearnerSpec:
        """The learner of a member: the spec's, or one that the address draws."""
        return self.draw(address)

    @cached_property
    def draw(self) -> drawing.Draw:
        """Draws learners as the spec says, and remembers which architectures passed their trial."""
        return drawing.drawing(self.spec.learner, self.data.shape, self._begins_to_learn, self.plugins)

    def _begins_to_learn(self, learner: LearnerSpec) -> bool:
        """A trial on real data; the same for every member, run and evaluator that asks."""
        problem = self.problem(learner)
        return drawing.begins_to_learn(
            problem.learner, problem.total, self.train, learner.trial, len(self.data.classes), learner.begun
        )

    def theta0(self, learner: Learner, address: Address) -> Tensor:
        """A member's initial parameters, as the spec's initialisation has them (`platform.initialisation`)."""
        return self.start(learner, address).to(self.device)
