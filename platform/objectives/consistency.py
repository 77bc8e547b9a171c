"""Objectives that compare the outputs for two views of a sample; they need no labels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from raystill.platform.objectives.distillation import kl
from raystill.platform.objectives.step import Facts, Number, Step, Term, both_logits, count, need_views, number


def jensen_shannon(views: int = 2) -> Term:
    """mean_v KL(p_v || M), M = mean_v p_v, over the sample and its further views (AugMix, 1912.02781, section 3).

    AugMix adds 12 times this to the cross-entropy.

    Args:
        views: how many views beside the sample itself, at least 1.

    Raises:
        ValueError: no views; at a step: another number of them.
    """
    count("jensen_shannon.views", views)

    def loss(step: Step) -> Tensor:
        logits = [step.student.logits, *need_views(step, views, "jensen_shannon")]
        p = torch.stack([F.log_softmax(z, 1) for z in logits])
        mixed = p.logsumexp(0) - math.log(len(logits))
        return (p.exp() * (p - mixed)).sum(2).mean(0)

    return Term(loss, Facts(views=views))


def fixmatch(threshold: Number = 0.95) -> Term:
    """1[max q >= t] (-log p_k), k = argmax q, q = softmax(v) (Sohn 2020, 2001.07685, eq. 4).

    The teacher answers to the weak view, the student to the strong one; no gradient goes to the teacher. A sample
    below the threshold counts as zero, so the mean over the batch stays the paper's.

    Args:
        threshold: t, 0 to 1.

    Raises:
        ValueError: t outside [0, 1]; at a step: no teacher, or one with other classes.
    """
    t = number("fixmatch.threshold", threshold, 0.0, 1.0)

    def loss(step: Step) -> Tensor:
        z, v = both_logits(step, "fixmatch")
        sure, k = F.softmax(v.detach(), 1).max(1)
        return F.cross_entropy(z, k, reduction="none") * (sure >= t)

    return Term(loss, Facts(teacher=True))


def uda(threshold: Number = 0.8, temperature: Number = 0.4) -> Term:
    """1[max softmax(v) > t] KL(softmax(v / T) || softmax(z)) (Xie 2020, 1904.12848, eq. 1).

    The threshold looks at the answer before it is sharpened. No gradient goes to the teacher.

    Args:
        threshold: t, 0 to 1.
        temperature: T > 0; below 1 sharpens.

    Raises:
        ValueError: t outside [0, 1], T <= 0; at a step: no teacher, or one with other classes.
    """
    t = number("uda.threshold", threshold, 0.0, 1.0)
    T = number("uda.temperature", temperature, 0.0, above=True)

    def loss(step: Step) -> Tensor:
        z, v = both_logits(step, "uda")
        v = v.detach()
        return kl(v / T, z) * (F.softmax(v, 1).amax(1) > t)

    return Term(loss, Facts(teacher=True))


def mean_teacher() -> Term:
    """|softmax(z) - softmax(v)|^2 / K (Tarvainen & Valpola 2017, 1703.01780, section 2); no gradient to the teacher.

    The moving average is the teacher's, so nothing is carried here. With the logarithm of a guessed label in place of
    v this is MixMatch's loss on unlabelled samples (1905.02249, eq. 4).

    Raises:
        ValueError: at a step: no teacher, or one with other classes.
    """

    def loss(step: Step) -> Tensor:
        z, v = both_logits(step, "mean_teacher")
        return (F.softmax(z, 1) - F.softmax(v.detach(), 1)).square().mean(1)

    return Term(loss, Facts(teacher=True))
