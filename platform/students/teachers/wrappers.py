"""Wrappers of a teacher: noise on its logits, a mean over augmentations, a lower temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from raystill.platform.objectives import Out
from raystill.platform.seeds import Address, torch_rng
from raystill.platform.students.augmentations import Transform
from raystill.platform.students.teachers.contract import Mean, Teacher, mean_answer


def noisy(teacher: Teacher, sigma: float = 0.5, share: float = 0.5) -> Teacher:
    """v' = (1 + xi) v, xi ~ N(0, sigma^2) for each logit, of a share of the samples (Sau 2016, 1610.09650, eq. 4).

    Args:
        sigma: standard deviation of the relative noise, at least 0.
        share: probability that a sample gets noise, 0 to 1.

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

    return replace(teacher, answer=answer, changes=teacher.changes or "its logits get new noise at each step")


def tta(teacher: Teacher, transforms: Sequence[Transform], mean: Mean = "logits", changes: str = "") -> Teacher:
    """The mean answer to several transforms of each sample (data distillation, Radosavovic 2018, 1712.04440).

    Args:
        teacher: the one to wrap.
        transforms: at least one; include the identity to count the sample itself.
        mean: of logits or of probabilities, as in `ensemble`.
        changes: why transforms differ from step to step; "" for fixed ones, such as flips.

    Raises:
        ValueError: no transforms.
    """
    if not transforms:
        raise ValueError("teacher.tta: needs at least one transform")

    def answer(x: Tensor, y: Tensor, address: Address) -> Out:
        at = [address.at(stream=f"{address.stream}/{i}") for i in range(len(transforms))]
        return mean_answer([teacher(transform(x, a), y, a) for transform, a in zip(transforms, at)], mean)

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
