"""The inner problem's one-step functions, and what an unroll with them may keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from raystill.platform import training
from raystill.platform.meta import linearise, optimisers

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]

GRAPH_BYTES = 64 << 20
"""Step graphs that a looped unroll keeps rather than rebuilds; bounded, whatever the unroll's length."""


@dataclass(frozen=True)
class Engine:
    """The inner problem's gradient and its linearisation; see `linearise`.

    Attributes:
        keep, memory, optimiser: as in `make_engine`.
        trajectory: type that states are stored in for the backward pass; None: their own.
    """

    gradient: linearise.Gradient
    linearise: linearise.Linearise
    keep: int = 0
    memory: int | None = None
    trajectory: torch.dtype | None = None
    optimiser: optimisers.Optimiser | None = None
    _bytes: dict[tuple[int, ...], int] = field(default_factory=dict, compare=False)

    def graph_steps(self, theta: Tensor, x: Tensor, y: Tensor, steps: int, room: int | None = None) -> int:
        """How many of the last steps keep their graphs; it depends on shapes and budgets alone.

        Args:
            theta: parameters [P]; a stack keeps none.
            x, y: one step's batch, [M, ...] and [M] or [M, K].
            steps: number of steps that are differentiated.
            room: bytes that are left for graphs; None leaves `keep`.
        """
        keep = self.keep if room is None else min(self.keep, room)
        if not keep or theta.dim() > 1:
            return 0
        key = (*x.shape, x.element_size())
        if key not in self._bytes:
            self._bytes[key] = _graph_bytes(self.linearise, theta, x, y)
        return min(steps, keep // max(self._bytes[key], 1))


def _graph_bytes(linear: linearise.Linearise, theta: Tensor, x: Tensor, y: Tensor) -> int:
    storages: dict[int, int] = {}  # address -> bytes

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    linearisations: list[Any] = []
    with saved_tensors_hooks(record, lambda tensor: tensor):
        linearisations.append(linear(theta, x, y))
    return sum(storages.values())


def make_engine(
    loss: training.Loss,
    mode: str = "reverse",
    stack: str = "loop",
    keep: int = 0,
    wrap: Wrap | None = None,
    memory: int | None = None,
    trajectory: str = "float32",
    optimiser: optimisers.Optimiser | None = None,
) -> Engine:
    """An engine for an inner loss.

    Args:
        loss: (theta[P], x[M, ...], y) -> scalar.
        mode: `reverse` or `forward`; one result, different costs.
        stack: `loop` (one member at a time) or `vmap` (theta0 is [J, P]).
        keep: bytes that the graphs of the last steps may take; the others are rebuilt (reverse, loop).
        wrap: transforms the two pure one-step functions, as `torch.compile` does; every graph is then rebuilt.
        memory: bytes that states and graphs may take together; steps beyond them are computed again.
        trajectory: `float32` keeps states as they are; `bfloat16` rounds those that the backward pass reads.
        optimiser: of the inner loop; None: `optimisers.choose` takes one by the steps' hyper-parameters.
    """
    rounded = torch.bfloat16 if trajectory == "bfloat16" else None
    if stack == "loop" and mode == "reverse" and wrap is None:
        return Engine(training.gradient(loss), linearise.reverse(loss), keep, memory, rounded, optimiser)
    gradient, product = linearise.stepwise(loss, mode)
    if stack == "vmap":
        gradient = torch.func.vmap(gradient, in_dims=(0, None, None))
        product = torch.func.vmap(product, in_dims=(0, 0, None, None))
    if wrap is not None:
        gradient, product = wrap(gradient), wrap(product)
    elif stack == "loop":
        gradient = training.gradient(loss)  # the same without functorch's overhead
    return Engine(gradient, linearise.rebuilt(gradient, product), 0, memory, rounded, optimiser)
