"""Objectives composed of others: sums, masks, weights that change."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from raystill.platform.objectives.distillation import kd
from raystill.platform.objectives.labels import cross_entropy, has_label
from raystill.platform.objectives.step import Facts, Number, Objective, Step, Tensors, Term, number, term, under
from raystill.platform.seeds import Address

Weight = Number | Callable[[float], Number]
"""A factor, or a function of the training's progress, 0 to 1."""


def weighted(**terms: tuple[Weight, Objective]) -> Term:
    """sum_i w_i l_i, which reports each l_i by its name, unweighted.

    Weights, states and reports of its terms have the term's name before them: `hint.weight`, `moco.queue`.

    Args:
        terms: (weight, objective) by name.

    Raises:
        ValueError: no terms, or a weight that is not a number.
    """
    if not terms:
        raise ValueError("objective.weighted: needs at least one term")
    weights = {n: w if callable(w) else number(f"weighted.{n}", w) for n, (w, _) in terms.items()}
    parts = {n: term(objective) for n, (_, objective) in terms.items()}
    modules = {n: part.module for n, part in parts.items() if part.module is not None}

    def inside(step: Step, name: str) -> Step:
        return step._replace(parameters=under(step.parameters, name), state=under(step.state, name))

    def split(step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        total: Tensor | None = None
        terms_of_step: dict[str, Tensor] = {}
        for name, part in parts.items():
            losses, below = part.report(inside(step, name))
            terms_of_step |= {name: losses, **{f"{name}.{key}": value for key, value in below.items()}}
            w = weights[name]
            share = (w(step.progress) if callable(w) else w) * losses
            total = share if total is None else total + share
        assert total is not None
        return total, terms_of_step

    def start(address: Address) -> Tensors:
        states = {n: part.start(address.at(stream=f"{address.stream}/{n}")) for n, part in parts.items()}
        return {f"{n}.{key}": value for n, state in states.items() for key, value in state.items()}

    def advance(step: Step) -> Tensors:
        states = {n: part.advance(inside(step, n)) for n, part in parts.items()}
        return {f"{n}.{key}": value for n, state in states.items() for key, value in state.items()}

    return Term(
        lambda step: split(step)[0],
        _together(parts),
        nn.ModuleDict(modules) if modules else None,
        start, advance, split,
    )  # fmt: skip


def _together(parts: dict[str, Term]) -> Facts:
    every = {n: part.facts for n, part in parts.items()}
    return Facts(
        couples="; ".join(f"{n}: {f.couples}" for n, f in every.items() if f.couples),
        carries="; ".join(f"{n}: {f.carries}" for n, f in every.items() if f.carries),
        labels=any(f.labels for f in every.values()),
        teacher=any(f.teacher for f in every.values()),
        views=max(f.views for f in every.values()),
        inputs=any(f.inputs for f in every.values()),
        student_features=tuple(dict.fromkeys(p for f in every.values() for p in f.student_features)),
        teacher_features=tuple(dict.fromkeys(p for f in every.values() for p in f.teacher_features)),
    )


def hinton(temperature: Number = 4.0, alpha: Number = 0.9, smoothing: Number = 0.0) -> Term:
    """(1 - a) H(y, p) + a T^2 KL(q_T || p_T) (Hinton 2015, 1503.02531); reports `cross_entropy` and `kd`.

    Args:
        temperature: T > 0.
        alpha: a, 0 to 1, the teacher's share.
        smoothing: of the labels, 0 to 1.

    Raises:
        ValueError: a setting out of its range; at a step: no teacher, or one with other classes.
    """
    a = number("hinton.alpha", alpha, 0.0, 1.0)
    T = number("hinton.temperature", temperature, 0.0, above=True)
    smooth = number("hinton.smoothing", smoothing, 0.0, 1.0)
    return weighted(cross_entropy=(1 - a, cross_entropy(smooth)), kd=(a, kd(T)))


def labelled(inner: Objective) -> Term:
    """An objective where a sample has a label, and 0 where its id is -1 or its row is zeros.

    For batches of labelled and unlabelled samples: the loop's mean is over both, so a weight of
    (B + B_u) / B beside it gives the mean over the B labelled ones.
    """
    return _where(inner, True)


def unlabelled(inner: Objective) -> Term:
    """An objective where a sample has no label, and 0 where it has; the other half of `labelled`."""
    return _where(inner, False)


def _where(inner: Objective, known: bool) -> Term:
    part = term(inner)

    def masked(step: Step, losses: Tensor) -> Tensor:
        return torch.where(has_label(step.y) == known, losses, 0.0)

    def plain(step: Step) -> Step:
        return step if step.y.is_floating_point() else step._replace(y=step.y.clamp(min=0))

    def split(step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        losses, below = part.report(plain(step))
        return masked(step, losses), {key: masked(step, value) for key, value in below.items()}

    facts = part.facts._replace(labels=False)
    return Term(lambda step: split(step)[0], facts, part.module, part.start, part.advance, split)


def linear(first: float, last: float) -> Callable[[float], float]:
    """A weight that goes from `first` to `last` as the training does (FitNets: 4 to 1)."""
    number("weighted.first", first), number("weighted.last", last)
    return lambda progress: first + (last - first) * progress


def ramp_up(top: float, until: float = 0.2) -> Callable[[float], float]:
    """top e^(-5 (1 - s)^2), s = progress / until up to 1 (Laine & Aila 2017; mean teacher, 1703.01780).

    Raises:
        ValueError: `until` outside (0, 1].
    """
    number("weighted.top", top), number("weighted.until", until, 0.0, 1.0, above=True)
    return lambda progress: top * math.exp(-5 * (1 - min(progress / until, 1.0)) ** 2)
