"""Inner optimisers: pure, elementwise updates of a state tuple whose first entry is the parameters.

The sweep differentiates an update by autograd on its (cheap) elementwise graph, so a new optimiser is one function.
States are [P] for one member, [J, P] for a stack; hyper-parameters are scalars, or [J, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

State = tuple[Tensor, ...]
Update = Callable[[State, Tensor, Mapping[str, Tensor]], State]


def sgd(state: State, gradient: Tensor, hyper: Mapping[str, Tensor]) -> State:
    """theta' = theta - lr g."""
    (theta,) = state
    return (theta - hyper["lr"] * gradient,)


def momentum(state: State, gradient: Tensor, hyper: Mapping[str, Tensor]) -> State:
    """v' = mu v + g; theta' = theta - lr v' (heavy ball, torch's convention)."""
    theta, velocity = state
    velocity = hyper["momentum"] * velocity + gradient
    return theta - hyper["lr"] * velocity, velocity


def choose(hyper: Mapping[str, Tensor]) -> tuple[Update, Callable[[Tensor], State]]:
    """The update that a set of hyper-parameters asks for, and its first state from theta0."""
    if "momentum" in hyper:
        return momentum, lambda theta: (theta, torch.zeros_like(theta))
    return sgd, lambda theta: (theta,)
