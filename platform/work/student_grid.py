"""Many small students of one teacher, trained together: the (T, alpha, seed) grid of Hinton's distillation.

Temperature and mixing act after the logits, so the teacher is run once, and settings differ in two numbers only: one
`vmap` trains them all. Students of a seed share their start and the order of their batches, whatever the setting,
so that settings are compared in pairs, and the first layer sees one batch instead of one for each setting.

`teacher`, `grade` and `students` are kinds of work items: (workbench, address, options, inputs) -> (numbers, arrays).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.func import vmap

from raystill.platform import learners
from raystill.platform.data.resident import Resident
from raystill.platform.evaluation import evaluate
from raystill.platform.evaluation.protocol import Split
from raystill.platform.learners import Learner
from raystill.platform.learners.networks import without_patches
from raystill.platform.learners.stacked import stacked
from raystill.platform.objectives import Objective, Out, Step, make
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import LearnerSpec
from raystill.platform.spec.section import Count, Fraction, Part, Positive
from raystill.platform.training import cosine
from raystill.platform.work.workbench import Arrays, Inputs, Numbers, Workbench

AT_ONCE = 4096
"""Images times networks of one pass when accuracy is counted: bounds the memory of the features."""


class TrainingSpec(Part):
    """Plain training: SGD with momentum, the rate on one cosine down to zero."""

    steps: Count = Field(1000, description="minibatches")
    batch_size: Count = Field(32, description="images of a minibatch, at most the training split")
    lr: Positive = Field(0.05, description="rate that the cosine starts from")
    momentum: Fraction = Field(0.9, description="of the SGD")


class Cohort:
    """S seeds x n settings of one network, as one tensor of parameters.

    Attributes:
        theta: [S, n, P].
        done: steps taken.
    """

    def __init__(
        self, learner: Learner, data: Resident, logits: Tensor, temperatures: Sequence[float], alphas: Sequence[float],
        addresses: Sequence[Address], training: TrainingSpec, stack: Literal["vmap", "loop"] = "vmap",
        smoothing: float = 0.0,
    ) -> None:  # fmt: skip
        """Start the students.

        Args:
            data: N training images.
            logits: the teacher's, [N, K].
            temperatures, alphas: n settings, pairwise.
            addresses: one for each seed; names the start and the order of the batches.
            stack: all at a time, or one after another: the same to round-off.
            smoothing: of the labels.

        Raises:
            ValueError: a setting out of its range, or logits that are not one row for each image.
        """
        self._smoothing = smoothing
        self._objectives = [make("hinton", self._settings(T, a)) for T, a in zip(temperatures, alphas, strict=True)]
        if logits.shape[0] != len(data):
            raise ValueError(f"teacher: {logits.shape[0]} rows of logits for {len(data)} training images")
        self._learner, self._data, self._logits, self._training = learner, data, logits, training
        self._addresses = tuple(addresses)
        device = logits.device
        self._T, self._a = (torch.tensor(v, dtype=torch.float32, device=device) for v in (temperatures, alphas))
        starts = [learner.init(a.at(stream=f"{a.stream}/theta0")) for a in addresses]
        self.theta = torch.stack(starts).to(device)[:, None].repeat(1, len(self._T), 1)
        self._velocity = torch.zeros_like(self.theta)
        self.done = 0
        self._orders: list[np.ndarray] = []
        whole = stacked(learner.module) if device.type == "cpu" else None
        self._together = whole or vmap(vmap(learner.apply, (0, None)))
        self._gradient = self._vmapped() if stack == "vmap" else self._looped()

    def _vmapped(self) -> Callable[..., Tensor]:
        def loss(z: Tensor, T: Tensor, a: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
            return make("hinton", self._settings(T, a))(Step(x, y, Out(z), Out(v))).mean()

        settings = vmap(loss, (0, 0, 0, None, None, None))
        seeds = vmap(settings, (0, None, None, 0, 0, 0))

        def gradient(x: Tensor, y: Tensor, v: Tensor) -> Tensor:
            leaf = self.theta.detach().requires_grad_()
            z = self._together(leaf, x)
            if len(z) == 1:  # one map is cheaper than two
                losses = settings(z[0], self._T, self._a, x[0], y[0], v[0])
            else:
                losses = seeds(z, self._T, self._a, x, y, v)
            # only this sum joins the students, so its gradient holds each student's own, without a vmap of grad
            return torch.autograd.grad(losses.sum(), leaf)[0]

        return gradient

    def _looped(self) -> Callable[..., Tensor]:
        def gradient(x: Tensor, y: Tensor, v: Tensor) -> Tensor:
            gradients = torch.empty_like(self.theta)
            for s, i in np.ndindex(self.theta.shape[:2]):
                leaf = self.theta[s, i].detach().requires_grad_()
                loss = self._mean(self._objectives[i], leaf, x[s], y[s], v[s])
                (gradients[s, i],) = torch.autograd.grad(loss, leaf)
            return gradients

        return gradient

    def _settings(self, temperature: Any, alpha: Any) -> dict[str, Any]:
        return {"temperature": temperature, "alpha": alpha, "smoothing": self._smoothing}

    def _mean(self, objective: Objective, theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return objective(Step(x, y, Out(self._learner.apply(theta, x)), Out(v))).mean()

    def _rows(self) -> np.ndarray:
        """The next minibatch of each seed, [S, B]; an epoch's remainder that fills no batch is left out."""
        count = len(self._data)
        size = min(self._training.batch_size, count)
        epoch, at = divmod(self.done, count // size)
        if at == 0 or not self._orders:  # an epoch begins, or goes on after a restore
            self._orders = [
                numpy_rng(a.at(step=epoch, stream=f"{a.stream}/order")).permutation(count) for a in self._addresses
            ]
        return np.stack([order[at * size : (at + 1) * size] for order in self._orders])

    def advance(self, steps: int | None = None) -> None:
        """Take some steps, or all that are left."""
        total = self._training.steps
        for _ in range(total - self.done if steps is None else min(steps, total - self.done)):
            rows = torch.from_numpy(self._rows())
            x, y = self._data.batch(rows)
            g = self._gradient(x, y, self._logits[rows.to(self._logits.device)])
            self._velocity.mul_(self._training.momentum).add_(g)
            rate = self._training.lr * cosine(self.done, total)
            self.theta.sub_(self._velocity, alpha=rate)
            self.done += 1

    def state(self) -> Arrays:
        """Arrays that `restore` continues from."""
        return {
            "theta": self.theta.cpu().numpy(),
            "velocity": self._velocity.cpu().numpy(),
            "done": np.array(self.done),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a state of the same students, with the bits of a run that never stopped."""
        for tensor, name in ((self.theta, "theta"), (self._velocity, "velocity")):
            tensor.copy_(torch.from_numpy(np.array(state[name])))
        self.done, self._orders = int(state["done"]), []

    @torch.no_grad()
    def accuracies(self, split: Resident) -> np.ndarray:
        """Accuracy of each student on a split, [S, n]; 0 where its parameters are not finite."""
        seeds, count = self.theta.shape[:2]
        chunk, right = max(1, AT_ONCE // (seeds * count)), torch.zeros(seeds, count, dtype=torch.int64)
        for at in range(0, len(split), chunk):
            x, y = split.batch(np.arange(at, min(at + chunk, len(split))))
            answers = self._together(self.theta, x.expand(seeds, *x.shape))
            right += (answers.argmax(3) == y).sum(2).cpu()
        right *= self.theta.isfinite().all(2).cpu()
        return (right.double() / len(split)).numpy()

    @torch.no_grad()
    def answers(self, x: Resident, chunk: int = 500) -> Tensor:
        """Logits [N, K] of the first student on a whole split."""
        parts = [x.batch(np.arange(at, min(at + chunk, len(x))))[0] for at in range(0, len(x), chunk)]
        return torch.cat([self._learner.apply(self.theta[0, 0], part) for part in parts])


def _built(bench: Workbench, spec: LearnerSpec) -> Learner:
    learner = learners.build(spec, bench.data.shape, len(bench.data.classes), bench.plugins)
    learner.module.to(bench.device)
    without_patches(learner.module)
    return learner


@dataclass(frozen=True)
class TeacherOptions:
    """The teacher's network, its training, and the smoothing of its labels."""

    learner: LearnerSpec
    training: TrainingSpec
    smoothing: float


def teacher(bench: Workbench, address: Address, options: TeacherOptions, inputs: Inputs) -> tuple[Numbers, Arrays]:
    """Train a teacher on labels.

    Args:
        address: names the start and the order of the minibatches.
        inputs: none.

    Returns:
        `accuracy` on the validation split; `theta` [P] and the `logits` [N, K] of the N training images.
    """
    none = torch.zeros(len(bench.train), len(bench.data.classes), device=bench.device)
    one = Cohort(
        _built(bench, options.learner), bench.train, none, (1.0,), (0.0,), (address,), options.training, "loop",
        options.smoothing,
    )  # fmt: skip
    one.advance()
    arrays = {"theta": one.theta[0, 0].cpu().numpy(), "logits": one.answers(bench.train).cpu().numpy()}
    return {"accuracy": float(one.accuracies(bench.validation)[0, 0])}, arrays


@dataclass(frozen=True)
class GradeOptions:
    """A network, and the split that it is evaluated on."""

    learner: LearnerSpec
    split: Split


def grade(bench: Workbench, address: Address, options: GradeOptions, inputs: Inputs) -> tuple[Numbers, Arrays]:
    """Evaluate a network on a split.

    Args:
        inputs: the network's parameters `theta` [P].

    Returns:
        `accuracy`; no arrays.
    """
    learner = _built(bench, options.learner)
    return evaluate(learner.apply, bench.tensors(inputs)["theta"], bench.split(options.split)), {}


@dataclass(frozen=True)
class StudentsOptions:
    """A block of students.

    Attributes:
        settings: pairs of temperature T and mixing weight alpha.
        seeds: each seed trains one student per setting.
        stream: of the students' addresses.
        stack: train all at a time, or one after another.
        split: the split that they are evaluated on.
    """

    learner: LearnerSpec
    training: TrainingSpec
    settings: tuple[tuple[float, float], ...]
    seeds: tuple[int, ...]
    stack: Literal["vmap", "loop"] = "vmap"
    split: Split = "validation"
    stream: str = "student"


def cohort(bench: Workbench, options: StudentsOptions, inputs: Inputs) -> Cohort:
    """The students that options ask for; those of seed s start at `Address(run seed, member=s, stream)`."""
    logits = bench.tensors({"logits": inputs["logits"]})["logits"]
    addresses = [Address(bench.spec.run.seed, member=s, stream=options.stream) for s in options.seeds]
    temperatures, alphas = [t for t, _ in options.settings], [a for _, a in options.settings]
    return Cohort(
        _built(bench, options.learner), bench.train, logits, temperatures, alphas, addresses, options.training,
        options.stack,
    )  # fmt: skip


def students(bench: Workbench, address: Address, options: StudentsOptions, inputs: Inputs) -> tuple[Numbers, Arrays]:
    """Train a block of students to the end.

    Args:
        inputs: the teacher's `logits` [N, K].

    Returns:
        Numbers `s.i`, the accuracy of seed s and setting i, both by position; no arrays.
    """
    group = cohort(bench, options, inputs)
    group.advance()
    accuracies = group.accuracies(bench.split(options.split))
    return {f"{s}.{i}": float(accuracies[s, i]) for s, i in np.ndindex(accuracies.shape)}, {}
