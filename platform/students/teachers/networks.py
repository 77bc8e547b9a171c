"""Teachers: trained networks, the student, its moving average, and smoothed labels."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from raystill.platform.objectives import Out, soft
from raystill.platform.seeds import Address
from raystill.platform.students.features import see
from raystill.platform.students.teachers.contract import Mean, Teacher, mean_answer


def frozen_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose weights need no gradients."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def frozen(model: nn.Module, at: Sequence[str] = ()) -> Teacher:
    """A trained network with fixed weights; for Tf-KD_self (Yuan 2020, 1909.11723) the student's own trained copy.

    Args:
        at: module paths whose outputs are features.

    Raises:
        ValueError: an unknown path; the nearest ones are named.
    """
    network = frozen_copy(model)
    answers = see(network, at, "teacher.features")
    return Teacher(lambda x, y, address: answers(x), module=network)


def ensemble(teachers: Sequence[Teacher], mean: Mean = "logits") -> Teacher:
    """Several teachers as one (Hinton 2015, 1503.02531, section 1).

    Args:
        teachers: at least one; their features are not averaged.
        mean: of `logits`, the geometric mean of their softmaxes at every temperature; or of `probabilities`, the
            arithmetic mean at temperature 1, as logarithms.

    Raises:
        ValueError: no teachers.
    """
    if not teachers:
        raise ValueError("teacher.ensemble: needs at least one teacher")

    def answer(x: Tensor, y: Tensor, address: Address) -> Out:
        outs = [t(x, y, address.at(stream=f"{address.stream}/{i}")) for i, t in enumerate(teachers)]
        return mean_answer(outs, mean)

    def update(student: nn.Module, done: int) -> None:
        for t in teachers:
            if t.update:
                t.update(student, done)

    modules = nn.ModuleList([t.module for t in teachers if t.module is not None])
    moving = any(t.update for t in teachers)
    why = "; ".join(dict.fromkeys(t.changes for t in teachers if t.changes))
    return Teacher(answer, why, modules, update if moving else None)


def virtual(classes: int, confidence: float = 0.99) -> Teacher:
    """log p, p = a for the right class and (1 - a) / (K - 1) for each other: Tf-KD_reg (1909.11723, eq. 8).

    `kd` then softens it to softmax(log p / T), as in the paper. The paper's code takes the softmax of p / T, which is
    nearly uniform at its T = 20.

    Args:
        classes: K, at least 2.
        confidence: a, between 1 / K and 1.

    Raises:
        ValueError: fewer than two classes, or a confidence out of its range.
    """
    if classes < 2:
        raise ValueError(f"teacher.virtual: {classes} classes; needs at least 2")
    if not 1 / classes < confidence < 1:
        raise ValueError(f"teacher.virtual.confidence: {confidence:g} is not between 1/{classes} and 1")
    low = (1 - confidence) / (classes - 1)

    def answer(x: Tensor, y: Tensor, address: Address) -> Out:
        rows = soft(y.clamp(min=0) if not y.is_floating_point() else y, classes)
        return Out((rows.float() * (confidence - low) + low).log())

    return Teacher(answer)


def own(student: nn.Module, at: Sequence[str] = ()) -> Teacher:
    """The student with its current weights, usually on another augmentation (FixMatch, UDA, MixMatch)."""
    answers = see(student, at, "teacher.features")
    return Teacher(lambda x, y, address: answers(x), changes="it is the student itself, which learns")


def ema(student: nn.Module, decay: float = 0.999, warm: bool = True, at: Sequence[str] = ()) -> Teacher:
    """The moving average of the student's weights, t' = m t + (1 - m) s (mean teacher 1703.01780; MoCo 1911.05722).

    It starts with the student's weights; buffers are copied at each update.

    Args:
        student: the network to average.
        decay: m, 0 to 1.
        warm: limit m to 1 - 1 / (updates + 1), so that the first weights lose their influence soon (mean teacher's
            code); False takes m (MoCo).
        at: module paths whose outputs are features.

    Raises:
        ValueError: decay outside [0, 1], or an unknown feature path.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"teacher.ema.decay: {decay:g} is not between 0 and 1")
    average = frozen_copy(student)
    answers = see(average, at, "teacher.features")

    @torch.no_grad()
    def update(now: nn.Module, done: int) -> None:
        m = min(decay, 1 - 1 / (done + 1)) if warm else decay
        for mine, theirs in zip(average.parameters(), now.parameters()):
            mine.lerp_(theirs.detach(), 1 - m)
        for old, new in zip(average.buffers(), now.buffers()):
            old.copy_(new)

    return Teacher(lambda x, y, address: answers(x), "it is a moving average of the student", average, update)
