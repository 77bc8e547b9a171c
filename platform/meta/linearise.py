"""One inner step's gradient g = d/dtheta loss(theta, x, y), and the products c -> (dg/d(theta, x, y))^T c.

Two ways to the same product. *Reverse* keeps the graph of g and runs autograd through it. *Forward* uses that g is
itself a gradient: the derivative of grad(loss, (theta, x, y)) along theta + eps c holds H c and both mixed products,
in one jvp ("MixFlow-MG", 2025).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from raystill.platform.training import Loss

Product = Callable[[Tensor, bool], tuple["Tensor | None", Tensor, "Tensor | None"]]
"""(c, whether to compute theta's) -> cotangents of (theta, x, y)."""
Linearise = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Product]]
Gradient = Callable[[Tensor, Tensor, Tensor], Tensor]


def reverse(loss: Loss) -> Linearise:
    """Reverse-over-reverse: the graph of g lives until its product is computed."""

    def run(theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Product]:
        leaves = [theta.detach().requires_grad_(), x.detach().requires_grad_()]
        if y.is_floating_point():
            leaves.append(y.detach().requires_grad_())
        with torch.enable_grad():
            (g,) = torch.autograd.grad(
                loss(leaves[0], leaves[1], leaves[2] if len(leaves) > 2 else y), leaves[0], create_graph=True
            )

        def product(c: Tensor, to_theta: bool = True) -> tuple[Tensor | None, Tensor, Tensor | None]:
            h = torch.autograd.grad(g, leaves if to_theta else leaves[1:], c, materialize_grads=True)
            out = h[1:] if to_theta else h
            return h[0] if to_theta else None, out[0], out[1] if len(out) > 1 else None

        return g.detach(), product

    return run


def stepwise(loss: Loss, mode: str) -> tuple[Gradient, Callable[..., tuple[Tensor, ...]]]:
    """The gradient and the product of one member as pure functions, for `vmap` and `torch.compile`.

    Args:
        loss: (theta[P], x[M, ...], y) -> scalar.
        mode: `reverse` or `forward`, the way to the product.

    Returns:
        g(theta, x, y) and product(theta, c[P], x, y) -> cotangents of theta, x and, where labels are rows, y.
    """
    plain = torch.func.grad(loss)

    def by_reverse(theta: Tensor, c: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        if y.is_floating_point():
            return torch.func.vjp(plain, theta, x, y)[1](c)
        return torch.func.vjp(lambda t, z: plain(t, z, y), theta, x)[1](c)

    def by_forward(theta: Tensor, c: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        gradients = torch.func.grad(loss, argnums=(0, 1, 2) if y.is_floating_point() else (0, 1))
        return torch.func.jvp(lambda t: gradients(t, x, y), (theta,), (c,))[1]

    return plain, {"reverse": by_reverse, "forward": by_forward}[mode]


def rebuilt(gradient: Gradient, products: Callable[..., tuple[Tensor, ...]]) -> Linearise:
    """A linearisation that keeps nothing but its inputs; for a stack theta[J, P], products come back as [J, ...]."""

    def run(theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Product]:
        def product(c: Tensor, to_theta: bool = True) -> tuple[Tensor | None, Tensor, Tensor | None]:
            out = products(theta, c, x, y)
            return out[0], out[1], out[2] if len(out) > 2 else None

        return gradient(theta, x, y), product

    return run
