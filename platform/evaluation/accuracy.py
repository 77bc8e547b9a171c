"""Judging distilled data: fresh networks trained on it, and on what the field compares it with.

Each function is a kind of work item: (workbench, address, options, inputs) -> (numbers, arrays).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from raystill.platform.data.resident import Resident
from raystill.platform.work.problem import Problem
from raystill.platform.work.workbench import Numbers


def named(logits: Tensor) -> Tensor:
    """The class that logits [N, K] name: the largest; where one logit stands for two classes, 1 above zero."""
    return logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()


@torch.no_grad()
def measured(problem: Problem, theta: Tensor, data: Resident, limit: int | None = None, chunk: int = 500) -> Numbers:
    """What a network says of a split's examples; of `limit` of them, evenly spaced, where it is given.

    Evenly spaced, because sources may be sorted by class.

    Returns:
        `accuracy`, the share that is named as the outer objective wants it: rightly, but for the classes that it
        relabels. Where it relabels some: `attack_success`, the share of those that are taken for what it wants, and
        `other_classes`, the accuracy on the rest.
    """
    count = min(limit or len(data), len(data))
    rows = np.arange(count) * len(data) // count
    right = hits = victims = 0
    for at in range(0, count, chunk):
        x, y = data.batch(rows[at : at + chunk])
        wanted, struck = y, torch.zeros_like(y, dtype=torch.bool)
        for k, t in problem.relabels:
            wanted, struck = torch.where(y == k, t, wanted), struck | (y == k)
        as_wanted = named(problem.learner.apply(theta, x)) == wanted
        right, hits = right + int(as_wanted.sum()), hits + int((as_wanted & struck).sum())
        victims += int(struck.sum())
    if not problem.relabels:
        return {"accuracy": right / count}
    return {
        "accuracy": right / count,
        "attack_success": hits / max(victims, 1),
        "other_classes": (right - hits) / max(count - victims, 1),
    }
