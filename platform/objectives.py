"""Per-sample losses, shared by the inner loop, the outer loop and students.

An objective is a function of a `Step` that returns one loss for each sample, shape (B,); means are taken once, in the
loop. That makes weights, masks and vmap compose, and abolishes the mean/batchmean class of mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Out(NamedTuple):
    """What a network says: logits (B, K), and features by module path where asked for."""

    logits: Tensor
    features: Mapping[str, Tensor] = {}


class Step(NamedTuple):
    """Everything an objective may look at: inputs (B, ...), labels (B,) ids or (B, K) rows, and who said what."""

    x: Tensor
    y: Tensor
    student: Out
    teacher: Out | None = None


Objective = Callable[[Step], Tensor]


def soft(y: Tensor, classes: int) -> Tensor:
    """Label rows (B, K): ids become one-hot rows, rows pass unchanged."""
    if y.is_floating_point():
        return y
    # F.one_hot looks at the values, which vmap does not allow
    return (y[..., None] == torch.arange(classes, device=y.device)).to(torch.get_default_dtype())


def cross_entropy(step: Step) -> Tensor:
    """-sum_k p_k log softmax(z)_k, with p from ids or from rows. Rows need not sum to one (SLDD, 1910.02551)."""
    if not step.y.is_floating_point():
        return F.cross_entropy(step.student.logits, step.y, reduction="none")
    return -(step.y * F.log_softmax(step.student.logits, 1)).sum(1)


def squared_error(step: Step) -> Tensor:
    """|z - p|^2 / 2, summed over classes."""
    logits = step.student.logits
    return 0.5 * (logits - soft(step.y, logits.shape[1]).to(logits.dtype)).square().sum(1)


OBJECTIVES: dict[str, Objective] = {"cross_entropy": cross_entropy, "squared_error": squared_error}
