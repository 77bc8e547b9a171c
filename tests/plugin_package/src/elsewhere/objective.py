"""The focal loss (Lin et al. 2017, 1708.02002, equation 4)."""

from __future__ import annotations

from torch import Tensor

from raystill.platform.objectives import Step, soft


def focal(step: Step, gamma: float = 2.0) -> Tensor:
    """-sum_k p_k (1 - q_k)^gamma log q_k, of labels p and predictions q, shape (B,)."""
    logs = step.student.logits.log_softmax(1)
    return -(soft(step.y, logs.shape[1]) * (1 - logs.exp()) ** gamma * logs).sum(1)
