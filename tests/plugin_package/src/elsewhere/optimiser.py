"""Nesterov's momentum as an inner optimiser (Sutskever et al. 2013, equations 3 and 4, in torch's convention)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from raystill.platform.meta.optimisers import Optimiser

State = tuple[Tensor, ...]


def nesterov(momentum: float = 0.9) -> Optimiser:
    """v' = mu v + g; theta' = theta - lr (g + mu v'), with mu the same at each step."""

    def init(theta: Tensor) -> State:
        return theta, torch.zeros_like(theta)

    def update(state: State, gradient: Tensor, hyper: Mapping[str, Tensor]) -> State:
        theta, velocity = state
        velocity = momentum * velocity + gradient
        return theta - hyper["lr"] * (gradient + momentum * velocity), velocity

    def vjp(
        state: State, gradient: Tensor, hyper: Mapping[str, Tensor], cotangent: State
    ) -> tuple[State, Tensor, dict[str, Tensor]]:
        (_, velocity), (c, w) = state, cotangent
        w = w - momentum * hyper["lr"] * c
        direction = gradient + momentum * (momentum * velocity + gradient)
        return (c, momentum * w), w - hyper["lr"] * c, {"lr": -(direction * c).sum(-1)}

    return Optimiser(init, update, vjp)
