"""Objectives that compare the student with labels alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from raystill.platform.objectives.step import Facts, Number, Step, Term, number


def soft(y: Tensor, classes: int) -> Tensor:
    """Label rows (B, K): ids become one-hot rows, rows pass unchanged."""
    if y.is_floating_point():
        return y
    # F.one_hot looks at the values, which vmap does not allow
    return (y[..., None] == torch.arange(classes, device=y.device)).to(torch.get_default_dtype())


def has_label(y: Tensor) -> Tensor:
    """Which samples have a label, bool (B,): an id of at least 0, or a row (B, K) that is not all zeros."""
    return (y != 0).any(1) if y.is_floating_point() else y >= 0


def _cross_entropy(step: Step) -> Tensor:
    if not step.y.is_floating_point():
        return F.cross_entropy(step.student.logits, step.y, reduction="none")
    return -(step.y * F.log_softmax(step.student.logits, 1)).sum(1)


def cross_entropy(smoothing: Number = 0.0) -> Term:
    """-sum_k p_k log softmax(z)_k with p' = (1 - a) p + a / K (Szegedy 2016, 1512.00567, section 7).

    Rows p need not sum to one (SLDD, 1910.02551). The average -log p over all classes that `a` puts in costs no rows.

    Args:
        smoothing: a, 0 to 1.

    Raises:
        ValueError: a outside [0, 1].
    """
    a = number("cross_entropy.smoothing", smoothing, 0.0, 1.0)
    if not isinstance(a, Tensor) and a == 0:
        return Term(_cross_entropy, Facts(labels=True))

    def loss(step: Step) -> Tensor:
        return (1 - a) * _cross_entropy(step) - a * F.log_softmax(step.student.logits, 1).mean(1)

    return Term(loss, Facts(labels=True))


def label_smoothing(smoothing: Number = 0.1) -> Term:
    """`cross_entropy` with smoothed labels."""
    return cross_entropy(smoothing)


def squared_error() -> Term:
    """|z - p|^2 / 2, summed over classes; no softmax."""

    def loss(step: Step) -> Tensor:
        logits = step.student.logits
        return 0.5 * (logits - soft(step.y, logits.shape[1]).to(logits.dtype)).square().sum(1)

    return Term(loss, Facts(labels=True))
