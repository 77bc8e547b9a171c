"""What one device holds while it works: the resident data, the networks and the engine, built from a spec."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raystill.platform import registry
from raystill.platform.data import DataSet
from raystill.platform.data.resident import Resident
from raystill.platform.evaluation.accuracy import evaluate
from raystill.platform.files.digests import file_digest
from raystill.platform.learners import Learner, files
from raystill.platform.meta import Engine, optimisers
from raystill.platform.meta.trajectory import slots
from raystill.platform.objectives import Objective, Out, Step
from raystill.platform.spec import DistillSpec
from raystill.platform.training import Loss


def resolve_auto(spec: DistillSpec, device: str) -> DistillSpec:
    """The spec with every `auto` of the engine decided for a kind of device (measured in docs/results/engine.md)."""
    gpu = device == "cuda"
    choices = {
        "mode": "reverse",
        "stack": "vmap" if gpu and spec.learner.draw == "none" else "loop",
        "compile": "never",
    }
    auto = {k: v for k, v in choices.items() if getattr(spec.meta, k) == "auto"}
    return spec.model_copy(update={
        "meta": spec.meta.model_copy(update=auto),
        "run": spec.run.model_copy(update={"device": device}),
    })  # fmt: skip


def check_memory(spec: DistillSpec, learner: Learner, plugins: registry.Plugins | None = None) -> None:
    """Whether `meta.memory` holds a state of the learner; a run's first item would be late to ask.

    Raises:
        ValueError: it does not; says what one takes.
    """
    members = spec.outer.chunk if spec.meta.stack == "vmap" else 1
    theta = torch.empty(members, learner.size, device="meta")
    auto = optimisers.MOMENTUM if spec.inner.momentum else optimisers.SGD
    slots(spec.meta.memory, (optimisers.resolve(spec.inner, plugins) or auto).init(theta), 1)


def losses(learner: Learner, objective: Objective, teacher: nn.Module | None = None) -> tuple[Loss, Loss]:
    """(mean, sum) of an objective's per-sample losses as functions of (theta, x, y); the teacher holds still."""

    def per_sample(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        taught = None
        if teacher is not None:
            with torch.no_grad():
                taught = Out(teacher(x))
        return objective(Step(x, y, Out(learner.apply(theta, x)), taught))

    return (lambda theta, x, y: per_sample(theta, x, y).mean()), (lambda theta, x, y: per_sample(theta, x, y).sum())


def outer_teacher(spec: DistillSpec, data: DataSet, plugins: registry.Plugins | None = None) -> nn.Module | None:
    """The network that the outer objective asks; None for none.

    Raises:
        ValueError: its file can not be loaded, is not the one that the run was planned with, or it knows other classes
            or images.
    """
    if spec.outer.teacher is None:
        return None
    path, planned = spec.outer.teacher, spec.outer.teacher_content
    if planned is not None and file_digest(path) != planned:
        raise ValueError(
            f"outer.teacher: {path} is not the file that this run began with (sha256 {planned[:12]}); put that back, "
            "or begin a new run with outer.teacher_content none"
        )
    module, facts = files.load_teacher(path, data.shape, data.mean, data.std, "outer.teacher", plugins)
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

    def evaluate(self, theta: Tensor, data: Resident, limit: int | None = None) -> dict[str, float]:
        """Accuracy of the learner with parameters theta [P]; see `evaluation.accuracy.evaluate`."""
        return evaluate(self.learner.apply, theta, data, self.relabels, limit)
