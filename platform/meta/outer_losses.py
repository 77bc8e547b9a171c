"""The outer pass: the loss of trained parameters on real data, and its gradient, in pieces of a fixed size.

On a CPU half of the outer pass is memory traffic: pieces that stay in cache are about twice as fast as one big batch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from raystill.platform.meta.unroll import OuterLoss

Total = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(theta, x, y) -> sum of per-sample losses."""


def precision(name: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast for `bfloat16`, nothing for `float32`."""
    return torch.autocast(device.type, torch.bfloat16) if name == "bfloat16" else nullcontext()


def outer_loss(total: Total, x: Tensor, y: Tensor, chunk: int, dtype: str = "float32") -> OuterLoss:
    """Mean loss over real samples and its gradient, summed piece by piece in order.

    Args:
        total: (theta[P], x, y) -> sum of per-sample losses.
        x, y: samples [N, ...] and their labels [N] or [N, K].
        chunk: samples in a piece.
        dtype: `float32`, or `bfloat16` for autocast.
    """

    def run(theta: Tensor) -> tuple[Tensor, Tensor]:
        leaf = theta.detach().requires_grad_()
        loss_sum, gradient_sum = theta.new_zeros(()), torch.zeros_like(theta)
        for piece_x, piece_y in zip(x.split(chunk), y.split(chunk)):
            with torch.enable_grad(), precision(dtype, theta.device):
                loss = total(leaf, piece_x, piece_y)
                (g,) = torch.autograd.grad(loss, leaf)
            loss_sum += loss.detach()
            gradient_sum += g
        return loss_sum / len(x), gradient_sum / len(x)

    return run


def stacked_outer_loss(total: Total, x: Tensor, y: Tensor, chunk: int, dtype: str = "float32") -> OuterLoss:
    """`outer_loss` for a stack theta[J, P].

    Args:
        x, y: a minibatch for each member, [J, N, ...] and [J, N] or [J, N, K].
        total, chunk, dtype: as in `outer_loss`.
    """
    gradient_and_loss = torch.func.vmap(torch.func.grad_and_value(total), in_dims=(0, 0, 0))

    def run(theta: Tensor) -> tuple[Tensor, Tensor]:
        loss_sum, gradient_sum = theta.new_zeros(theta.shape[:-1]), torch.zeros_like(theta)
        for piece_x, piece_y in zip(x.split(chunk, 1), y.split(chunk, 1)):
            with precision(dtype, theta.device):
                g, loss = gradient_and_loss(theta, piece_x, piece_y)
            loss_sum += loss
            gradient_sum += g
        return loss_sum / x.shape[1], gradient_sum / x.shape[1]

    return run
