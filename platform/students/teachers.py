"""Teachers: functions of inputs and labels that answer as a network does.

A teacher never decides about gradients: the loop does, since the Wasserstein ball's go through it. What makes its
answers to one sample differ from step to step it declares (`changes`), and a loop then keeps none of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raystill.platform.objectives import Out, soft
from raystill.platform.seeds import Address, torch_rng
from raystill.platform.students.features import see

Mean = Literal["logits", "probabilities"]
Transform = Callable[[Tensor, Address], Tensor]
"""(x (B, C, H, W), where it draws) -> the same samples changed."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """Call it with (x, y, address) for an `Out`.

    Attributes:
        answer: x (B, ...), y ids (B,) or rows (B, K), and the address that its random numbers come from -> Out.
        changes: why its answers to one sample differ from step to step; empty where they do not.
        module: its networks, None where it has none; moved to the student's device.
        update: (student, updates made so far) -> nothing; after each step of the student, for moving averages.
    """

    answer: Callable[[Tensor, Tensor, Address], Out]
    changes: str = ""
    module: nn.Module | None = None
    update: Callable[[nn.Module, int], None] | None = None

    def __call__(self, x: Tensor, y: Tensor, address: Address) -> Out:
        """The teacher's answers."""
        return self.answer(x, y, address)


def held(model: nn.Module) -> nn.Module:
    """A copy that stays as it is: evaluation mode, no gradients for its weights."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def frozen(model: nn.Module, at: Sequence[str] = ()) -> Teacher:
    """A trained network as it is; for Tf-KD_self (Yuan 2020, 1909.11723) the student's own trained copy.

    Args:
        at: module paths whose outputs are features.

    Raises:
        ValueError: a path that does not exist; the nearest ones are named.
    """
    network = held(model)
    answers = see(network, at, "teacher.features")
    return Teacher(lambda x, y, address: answers(x), module=network)


def _mean(outs: Sequence[Out], of: Mean) -> Out:
    if of == "logits":
        return Out(torch.stack([out.logits for out in outs]).mean(0))
    logs = torch.stack([F.log_softmax(out.logits, 1) for out in outs])
    return Out(logs.logsumexp(0) - torch.tensor(float(len(outs)), device=logs.device).log())


def ensemble(teachers: Sequence[Teacher], mean: Mean = "logits") -> Teacher:
    """Several teachers as one (Hinton 2015, 1503.02531, section 1).

    Args:
        mean: of `logits`, which is the geometric mean of their softmaxes at every temperature; or of `probabilities`,
            the arithmetic mean at temperature 1, as logarithms. Features are not averaged.

    Raises:
        ValueError: no teachers.
    """
    if not teachers:
        raise ValueError("teacher.ensemble: needs at least one teacher")

    def answer(x: Tensor, y: Tensor, address: Address) -> Out:
        outs = [t(x, y, address.at(stream=f"{address.stream}/{i}")) for i, t in enumerate(teachers)]
        return _mean(outs, mean)

    def update(student: nn.Module, done: int) -> None:
        for t in teachers:
            if t.update:
                t.update(student, done)

    modules = nn.ModuleList([t.module for t in teachers if t.module is not None])
    moving = any(t.update for t in teachers)
    why = "; ".join(dict.fromkeys(t.changes for t in teachers if t.changes))
    return Teacher(answer, why, modules, update if moving else None)


def noisy(teacher: Teacher, sigma: float = 0.5, share: float = 0.5) -> Teacher:
    """v' = (1 + xi) v, xi ~ N(0, sigma^2) for each logit, of a share of the samples (Sau 2016, 1610.09650, eq. 4).

    Args:
        sigma: standard deviation of the relative noise, at least 0.
        share: probability that a sample is disturbed, 0 to 1.

    Raises:
        ValueError: sigma < 0, or share outside [0, 1].
    """
    if sigma < 0:
        raise ValueError(f"teacher.noisy.sigma: {sigma:g} is not at least 0")
    if not 0 <= share <= 1:
        raise ValueError(f"teacher.noisy.share: {share:g} is not between 0 and 1")

    def answer(x: Tensor, y: Tensor, address: Address) -> Out:
        out, rng = teacher(x, y, address), torch_rng(address.at(stream=f"{address.stream}/noise"))
        chosen = torch.rand(len(out.logits), 1, generator=rng) < share
        xi = sigma * torch.randn(out.logits.shape, generator=rng) * chosen
        return out._replace(logits=out.logits * (1 + xi.to(out.logits)))

    return replace(teacher, answer=answer, changes=teacher.changes or "its logits are disturbed anew at each step")


def virtual(classes: int, confidence: float = 0.99) -> Teacher:
    """log p, p = a for the right class and (1 - a) / (K - 1) for each other: Tf-KD_reg (1909.11723, eq. 8).

    `kd` then softens it to softmax(log p / T), as the paper does. The paper's own code takes a softmax of the
    probabilities, which at its T = 20 is all but uniform.

    Args:
        classes: K, at least 2.
        confidence: a, between 1 / K and 1.

    Raises:
        ValueError: fewer than two classes, or a confidence outside.
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
    """The student itself as it is now, mostly on another augmentation (FixMatch, UDA, MixMatch)."""
    answers = see(student, at, "teacher.features")
    return Teacher(lambda x, y, address: answers(x), changes="it is the student itself, which learns")


def ema(student: nn.Module, decay: float = 0.999, warm: bool = True, at: Sequence[str] = ()) -> Teacher:
    """The moving average of the student's weights, t' = m t + (1 - m) s (mean teacher 1703.01780; MoCo 1911.05722).

    Buffers are copied. It starts as the student is.

    Args:
        decay: m, 0 to 1.
        warm: m is at most 1 - 1 / (updates + 1), so that the first weights are soon forgotten (mean teacher's code);
            False keeps m (MoCo).

    Raises:
        ValueError: decay outside [0, 1], or a feature path that does not exist.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"teacher.ema.decay: {decay:g} is not between 0 and 1")
    average = held(student)
    answers = see(average, at, "teacher.features")

    @torch.no_grad()
    def update(now: nn.Module, done: int) -> None:
        m = min(decay, 1 - 1 / (done + 1)) if warm else decay
        for mine, theirs in zip(average.parameters(), now.parameters()):
            mine.lerp_(theirs.detach(), 1 - m)
        for kept, new in zip(average.buffers(), now.buffers()):
            kept.copy_(new)

    return Teacher(lambda x, y, address: answers(x), "it is a moving average of the student", average, update)


def tta(teacher: Teacher, transforms: Sequence[Transform], mean: Mean = "logits", changes: str = "") -> Teacher:
    """The mean answer to several augmentations of each sample (data distillation, Radosavovic 2018, 1712.04440).

    Args:
        transforms: at least one; the sample itself is one of them only if a transform gives it back.
        mean: of logits or of probabilities, as in `ensemble`.
        changes: why they differ from step to step; empty for fixed ones, such as flips.

    Raises:
        ValueError: no transforms.
    """
    if not transforms:
        raise ValueError("teacher.tta: needs at least one transform")

    def answer(x: Tensor, y: Tensor, address: Address) -> Out:
        at = [address.at(stream=f"{address.stream}/{i}") for i in range(len(transforms))]
        return _mean([teacher(transform(x, a), y, a) for transform, a in zip(transforms, at)], mean)

    return replace(teacher, answer=answer, changes=teacher.changes or changes)


def sharpened(teacher: Teacher, temperature: float = 0.5) -> Teacher:
    """log q, q_k ~ p_k^(1/T) (MixMatch's guessed labels, 1905.02249, eq. 7).

    Raises:
        ValueError: T <= 0.
    """
    if temperature <= 0:
        raise ValueError(f"teacher.sharpened.temperature: {temperature:g} is not above 0")

    def answer(x: Tensor, y: Tensor, address: Address) -> Out:
        out = teacher(x, y, address)
        return out._replace(logits=F.log_softmax(out.logits / temperature, 1))

    return replace(teacher, answer=answer)
