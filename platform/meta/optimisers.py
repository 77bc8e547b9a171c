"""Inner optimisers: pure, elementwise updates of a state whose first entry is the parameters, and their transposes.

A new optimiser is an `Optimiser` and a line of `choose`; the engine stays as it is. The transposes are written out, not
taken by autograd: they run once for each inner step, and a graph of two operations costs several times what they do.
States are [P] for one member, [J, P] for a stack; hyper-parameters are scalars, or [J, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

State = tuple[Tensor, ...]
Hyper = Mapping[str, Tensor]


class Optimiser(NamedTuple):
    """An inner optimiser.

    Attributes:
        init: theta0 -> first state.
        update: (state, gradient, hyper) -> next state.
        vjp: (state, gradient, hyper, cotangent of the next state) -> cotangents of (state, gradient, hyper).
    """

    init: Callable[[Tensor], State]
    update: Callable[[State, Tensor, Hyper], State]
    vjp: Callable[[State, Tensor, Hyper, State], tuple[State, Tensor, dict[str, Tensor]]]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)  # pairwise; BLAS's is twenty times less exact in float32


def _sgd(state: State, gradient: Tensor, hyper: Hyper) -> State:
    """theta' = theta - lr g."""
    (theta,) = state
    return (theta - hyper["lr"] * gradient,)


def _vjp_sgd(state: State, gradient: Tensor, hyper: Hyper, cotangent: State) -> tuple[State, Tensor, dict[str, Tensor]]:
    (c,) = cotangent
    return cotangent, -hyper["lr"] * c, {"lr": -_dot(gradient, c)}


def _momentum(state: State, gradient: Tensor, hyper: Hyper) -> State:
    """v' = mu v + g; theta' = theta - lr v' (heavy ball, torch's convention)."""
    theta, velocity = state
    velocity = hyper["momentum"] * velocity + gradient
    return theta - hyper["lr"] * velocity, velocity


def _vjp_momentum(
    state: State, gradient: Tensor, hyper: Hyper, cotangent: State
) -> tuple[State, Tensor, dict[str, Tensor]]:
    (_, velocity), (c, new) = state, cotangent
    lr, mu = hyper["lr"], hyper["momentum"]
    new = new - lr * c
    rates = {"lr": -_dot(mu * velocity + gradient, c), "momentum": _dot(velocity, new)}
    return (c, mu * new), new, rates


SGD = Optimiser(lambda theta: (theta,), _sgd, _vjp_sgd)
MOMENTUM = Optimiser(lambda theta: (theta, torch.zeros_like(theta)), _momentum, _vjp_momentum)


def choose(hyper: Hyper) -> Optimiser:
    """The optimiser that a set of hyper-parameters asks for."""
    return MOMENTUM if "momentum" in hyper else SGD
