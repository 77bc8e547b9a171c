"""How often a network predicts the class that it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from raystill.platform.data.resident import Resident


def predicted(logits: Tensor) -> Tensor:
    """Classes [N] that logits [N, K] predict: the largest; where one logit stands for two classes, 1 above zero."""
    return logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()


@torch.no_grad()
def evaluate(
    apply: Callable[[Tensor, Tensor], Tensor],
    theta: Tensor,
    data: Resident,
    relabels: Sequence[tuple[int, int]] = (),
    limit: int | None = None,
    chunk: int = 500,
) -> dict[str, float]:
    """Accuracy of a network on a split.

    Args:
        apply: (parameters [P], examples [N, ...]) -> logits [N, K].
        theta: parameters [P].
        data: the split.
        relabels: (class, class that the outer objective wants predicted in its place) pairs; empty without an attack.
        limit: examples to use; they are evenly spaced, since sources may be sorted by class. None uses all.
        chunk: examples of one forward pass.

    Returns:
        `accuracy`, the share of examples for which the wanted class is predicted. With relabels also
        `attack_success`, that share among the relabelled classes, and `other_classes`, that share among the rest.
    """
    count = min(limit or len(data), len(data))
    rows = np.arange(count) * len(data) // count
    right = hits = victims = 0
    for at in range(0, count, chunk):
        x, y = data.batch(rows[at : at + chunk])
        wanted, relabelled = y, torch.zeros_like(y, dtype=torch.bool)
        for k, t in relabels:
            wanted, relabelled = torch.where(y == k, t, wanted), relabelled | (y == k)
        as_wanted = predicted(apply(theta, x)) == wanted
        right, hits = right + int(as_wanted.sum()), hits + int((as_wanted & relabelled).sum())
        victims += int(relabelled.sum())
    if not relabels:
        return {"accuracy": right / count}
    return {
        "accuracy": right / count,
        "attack_success": hits / max(victims, 1),
        "other_classes": (right - hits) / max(count - victims, 1),
    }
