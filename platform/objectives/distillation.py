"""Objectives that compare the student with a teacher: logits, features, a Wasserstein ball around few data."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad

from raystill.platform.learners.initialise import initialise
from raystill.platform.objectives.step import (
    Facts,
    Number,
    Objective,
    Step,
    Term,
    both_logits,
    feature,
    need_teacher,
    need_uncoupled,
    number,
    term,
    through,
)
from raystill.platform.seeds import Address, fixed_global, torch_rng


def kl(v: Tensor, z: Tensor) -> Tensor:
    """KL(softmax(v) || softmax(z)) of logits (B, K), (B,). Classes that v rules out (-inf) count nothing."""
    q, p = F.log_softmax(v, 1), F.log_softmax(z, 1)
    # finite logits stay exact, derivatives too, where a probability underflows to 0: q log q would not
    return (q.exp() * (q.clamp(min=torch.finfo(q.dtype).min) - p)).sum(1)


def kd(temperature: Number = 4.0) -> Term:
    """T^2 KL(softmax(v / T) || softmax(z / T)) (Hinton 2015, 1503.02531, section 2).

    T^2 keeps the gradient's size as T grows, where it tends to that of `logit_matching` over K; a sum over classes
    and the loop's mean over samples, which is what other codes call batchmean.

    Args:
        temperature: T > 0.

    Raises:
        ValueError: T <= 0; at a step: no teacher, or one with other classes.
    """
    T = number("kd.temperature", temperature, 0.0, above=True)

    def loss(step: Step) -> Tensor:
        z, v = both_logits(step, "kd")
        return T * T * kl(v / T, z / T)

    return Term(loss, Facts(teacher=True))


def logit_matching() -> Term:
    """|z - v|^2 / 2, summed over classes (Bucila 2006; Ba & Caruana 2014, 1312.6184, eq. 1).

    Raises:
        ValueError: at a step: no teacher, or one with other classes.
    """

    def loss(step: Step) -> Tensor:
        z, v = both_logits(step, "logit_matching")
        return 0.5 * (z - v).square().sum(1)

    return Term(loss, Facts(teacher=True))


def _feature_facts(student: str, teacher: str, module: nn.Module | None) -> Facts:
    norms = [m for m in (module.modules() if module else ()) if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    why = "BatchNorm in its own module takes statistics of the batch" if norms else ""
    return Facts(couples=why, teacher=True, student_features=(student,), teacher_features=(teacher,))


def _features(step: Step, student: str, teacher: str, module: nn.Module | None, name: str) -> tuple[Tensor, Tensor]:
    a = through(module, step, feature(step.student, student, f"{name}.student"))
    b = feature(need_teacher(step, name), teacher, f"{name}.teacher")
    if a.shape != b.shape:
        by = "the student's" if module is None else "the mapped student's"
        raise ValueError(
            f"objective.{name}: {by} {student!r} has shape {tuple(a.shape[1:])} and the teacher's {teacher!r} "
            f"{tuple(b.shape[1:])}; give a module that maps one to the other, as `regressor` makes"
        )
    return a.flatten(1), b.flatten(1)


def hint(student: str, teacher: str, regressor: nn.Module | None = None) -> Term:
    """|r(h_S) - h_T|^2 / 2, summed over a feature's elements (FitNets, Romero 2015, 1412.6550, eq. 3).

    The first of FitNets' two stages; the second is `hinton` with a weight that falls.

    Args:
        student, teacher: module paths of the guided and of the hint layer.
        regressor: r, trained beside the student; None where the shapes agree.

    Raises:
        ValueError: at a step: no teacher, a feature that was not recorded, or shapes that differ.
    """

    def loss(step: Step) -> Tensor:
        a, b = _features(step, student, teacher, regressor, "hint")
        return 0.5 * (a - b).square().sum(1)

    return Term(loss, _feature_facts(student, teacher, regressor), regressor)


def activation_boundary(
    student: str, teacher: str, connector: nn.Module | None = None, margin: Number = 1.0
) -> Term:  # fmt: skip
    """|rho(h_T) relu(m - r(h_S)) + (1 - rho(h_T)) relu(m + r(h_S))|^2, rho = 1[h > 0] (Heo 2019, 1811.03233).

    Both features are those *before* the rectifier, whose output does not show the boundary. For several layers take a
    weighted sum; the weights are in the paper's code, not in its text.

    Args:
        student, teacher: module paths.
        connector: r, trained beside the student; None where the shapes agree.
        margin: m > 0.

    Raises:
        ValueError: m <= 0; at a step: no teacher, a feature that was not recorded, or shapes that differ.
    """
    m = number("activation_boundary.margin", margin, 0.0, above=True)

    def loss(step: Step) -> Tensor:
        a, b = _features(step, student, teacher, connector, "activation_boundary")
        return F.relu(m - torch.where(b > 0, a, -a)).square().sum(1)

    return Term(loss, _feature_facts(student, teacher, connector), connector)


def regressor(student: tuple[int, ...], teacher: tuple[int, ...], address: Address) -> nn.Module:
    """A module from the student's features to the teacher's (FitNets section 2.2: no padding, so few weights).

    Args:
        student, teacher: shapes without the batch, (C, H, W) or (D,).
        address: names its initial weights (Glorot 2010).

    Raises:
        ValueError: the student's map is smaller than the teacher's, or one is a map and the other is not.
    """
    with fixed_global():
        if len(student) == len(teacher) == 1:
            module: nn.Module = nn.Linear(student[0], teacher[0])
        elif len(student) == len(teacher) == 3 and all(s >= t for s, t in zip(student[1:], teacher[1:])):
            kernel = (student[1] - teacher[1] + 1, student[2] - teacher[2] + 1)
            module = nn.Conv2d(student[0], teacher[0], kernel)
        else:
            raise ValueError(
                f"objective.regressor: none from {student} to {teacher}: the student's layer may not be the smaller one"
            )
    nn.utils.vector_to_parameters(initialise(module, "xavier", 1.0, torch_rng(address)), module.parameters())
    return module


def _norm(g: Tensor) -> Tensor:
    """|g| of rows (B, N); 0 has the derivative 0, twice, where sqrt has none."""
    squared = g.square().sum(1)
    zero = squared == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squared).sqrt())


def wasserstein(inner: Objective, radius: Number) -> Term:
    """l + e |d l / d x|, an upper bound of the worst case in a Wasserstein ball around few data (Kong 2020, eq. 2).

    `10.1609/aaai.v34i04.5874`. The derivative is total: it goes through the student *and* the teacher, so both are
    given as functions of x and cached logits do not serve. Costs a second forward and backward pass.

    Args:
        inner: l, an objective that does not couple samples and takes no further views.
        radius: e >= 0.

    Raises:
        ValueError: e < 0, an inner objective that it can not take; at a step: no networks as functions of x, or a
            teacher whose answers have no derivative.
    """
    e, inside = number("wasserstein.radius", radius, 0.0), term(inner)
    need_uncoupled(inside, "objective.wasserstein.inner")
    if inside.facts.views:
        raise ValueError("objective.wasserstein.inner: takes no objective of further views: eq. 2 has one x")

    def split(step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        if step.outputs is None:
            raise ValueError("objective.wasserstein: needs both networks as functions of x; cached logits do not serve")
        outputs = step.outputs

        def total(x: Tensor) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
            student, teacher = outputs(x)
            if inside.facts.teacher and teacher is not None and not teacher.logits.requires_grad:
                raise ValueError(
                    "objective.wasserstein: the teacher's answers have no derivative by x; drop its no_grad"
                )
            report = inside.report(step._replace(x=x, student=student, teacher=teacher))
            return report[0].sum(), report

        slope, (losses, parts) = grad(total, has_aux=True)(step.x)
        penalty = _norm(slope.flatten(1))
        return losses + e * penalty, {**(parts or {"inner": losses}), "gradient": penalty}

    return Term(
        lambda step: split(step)[0],
        inside.facts._replace(inputs=True),
        inside.module, inside.start, inside.advance, split,
    )  # fmt: skip
