"""Gradient descent: the update rules and the one loop by which raystill trains its networks.

A state is a tuple: the parameters, then the optimiser's tensors of the same shape (such as a velocity). Flat
parameters, or a stack of them, have one such tuple; parameters by name, a mapping of them. Everything is pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

State = tuple[Tensor, ...]
Named = Mapping[str, State]
Hyper = Mapping[str, Any]
"""Hyper-parameters of a step by name: numbers, scalar tensors, or [J, 1] for a stack."""
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(theta, x, y) -> scalar."""
Update = Callable[[State, Tensor, Hyper], State]
"""(state, gradient, hyper-parameters) -> next state."""

AnyState = TypeVar("AnyState", State, Named)


def cosine(done: float, steps: float) -> float:
    """The half-cosine's share of the highest rate after `done` of `steps`: 1 at the start, 0 at the end."""
    return 0.5 * (1 + math.cos(math.pi * done / steps))


def sgd(state: State, gradient: Tensor, hyper: Hyper) -> State:
    """theta' = theta - lr g."""
    (theta,) = state
    return (theta - hyper["lr"] * gradient,)


def momentum(state: State, gradient: Tensor, hyper: Hyper) -> State:
    """v' = mu v + g; theta' = theta - lr v' (heavy ball, torch's convention)."""
    theta, velocity = state
    velocity = hyper["momentum"] * velocity + gradient
    return theta - hyper["lr"] * velocity, velocity


def still(theta: Tensor) -> State:
    """The first state of `momentum`."""
    return theta, torch.zeros_like(theta)


def gradient(loss: Loss) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """g(theta, x, y) = d loss / d theta, without a graph."""

    def run(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        leaf = theta.detach().requires_grad_()
        with torch.enable_grad():
            (g,) = torch.autograd.grad(loss(leaf, x, y), leaf)
        return g

    return run


def step(
    state: AnyState,
    gradients: Tensor | Mapping[str, Tensor | None],
    update: Update,
    hyper: Hyper,
) -> AnyState:
    """One step of the optimiser.

    Args:
        state: a tuple for flat parameters, or a tuple for each parameter by name.
        gradients: in the form of the state; a parameter by name whose gradient is None stays as it is.
        update: rule of the optimiser, such as `momentum`.
        hyper: hyper-parameters of this step.
    """
    if isinstance(state, tuple):
        assert isinstance(gradients, Tensor)
        return update(state, gradients, hyper)
    assert isinstance(gradients, Mapping)
    return {name: entry if (g := gradients[name]) is None else update(entry, g, hyper) for name, entry in state.items()}


def descend(
    state: AnyState,
    batches: Iterable[tuple[tuple[Tensor, ...], Hyper]],
    gradients: Callable[..., Tensor | Mapping[str, Tensor | None]],
    update: Update,
) -> AnyState:
    """The state after one step on each batch.

    Args:
        state: as in `step`.
        batches: (x, y) and the hyper-parameters of each step.
        gradients: (parameters, x, y) -> their gradients; parameters by name are a mapping.
        update: rule of the optimiser.
    """
    for batch, hyper in batches:
        parameters = state[0] if isinstance(state, tuple) else {name: entry[0] for name, entry in state.items()}
        state = step(state, gradients(parameters, *batch), update, hyper)
    return state
