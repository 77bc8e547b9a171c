"""The objective of data poisoning: a network is to take one class for another, and the rest for what they are."""

from __future__ import annotations

import torch
from torch import Tensor

from raystill.platform.objectives.labels import cross_entropy
from raystill.platform.objectives.step import Facts, Number, Step, Term, number


def _label(field: str, value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"objective.{field}: {value!r} is not the number of a class")
    return value


def poison(victim: int, target: int, weight: Number = 1.0) -> Term:
    """L_{K->T}: -log softmax(z)_T for samples of class K = `victim`, cross-entropy for all others (1811.10959, 3.5).

    Args:
        victim: class that is to be misclassified, by its number.
        target: class that it is to be taken for.
        weight: factor on the victim's samples, above 0.

    Raises:
        ValueError: victim and target are the same, or no numbers of classes.
    """
    k, t = _label("poison.victim", victim), _label("poison.target", target)
    if k == t:
        raise ValueError(f"objective.poison: victim and target are both class {k}")
    w = number("poison.weight", weight, 0.0, above=True)
    plain = cross_entropy()

    def loss(step: Step) -> Tensor:
        if step.y.is_floating_point():
            moved = step.y.clone()
            moved[..., t] = step.y[..., t] + step.y[..., k]
            moved[..., k] = 0.0
            return plain(step._replace(y=moved)) * (1 + (w - 1) * step.y[..., k])
        hit = step.y == k
        losses = plain(step._replace(y=torch.where(hit, t, step.y)))
        return torch.where(hit, w * losses, losses)

    return Term(loss, Facts(labels=True, relabels=((k, t),)))
