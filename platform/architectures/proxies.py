"""Zero-cost rankers: a score of an untrained network, larger for networks that should learn better.

Each is a pure function (network with its initial weights, images x[B, C, H, W], labels y[B]) -> float. Parameters and
FLOPs are rankers too, and often no worse, so report them beside these. None is best in every space.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raystill.platform.architectures.spaces import Arch
from raystill.platform.learners.networks import Shape

Proxy = Callable[[nn.Module, Tensor, Tensor], float]
KINKS = (nn.ReLU, nn.Tanh)
NORMS = (nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.LayerNorm)


def _weights(network: nn.Module) -> list[Tensor]:
    """Matrices and kernels: the published proxies leave out biases and norms."""
    return [p for p in network.parameters() if p.dim() > 1]


def _gradients(network: nn.Module, x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    weights = _weights(network)
    loss = F.cross_entropy(network(x), y)
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    return [(w.detach(), torch.zeros_like(w) if g is None else g) for w, g in zip(weights, gradients)]


def grad_norm(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """sum over layers of ||dL/dW||_2 for the cross-entropy of one batch (Abdelfattah 2021, 2101.08134)."""
    return float(sum(g.norm() for _, g in _gradients(network, x, y)))


def snip(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """sum |W dL/dW| for the cross-entropy of one batch (Lee 2019, 1810.02340)."""
    return float(sum((w * g).abs().sum() for w, g in _gradients(network, x, y)))


def naswot(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """log |det K|, K_ij = units that are on for both images i and j, or off for both (Mellor 2021, 2006.04647).

    A tanh is on where its input is positive, as a ReLU is. Minus infinity where two images switch the same units; zero
    where there are no units. y is not used.
    """
    total = x.new_zeros((len(x), len(x)), dtype=torch.float64)
    units = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        nonlocal total, units
        on = (inputs[0] > 0).flatten(1).double()
        total = total + on @ on.T + (1 - on) @ (1 - on).T
        units += on.shape[1]

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, KINKS)]
    try:
        with torch.no_grad():
            network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return float(torch.linalg.slogdet(total)[1]) if units else 0.0


def synflow(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """log sum W dR/dW of R = sum of the logits of an image of ones, with |W| for W (Tanaka 2020, 2006.05467).

    Norms, biases and activations are left out, so that R is a sum over paths of the product of their |W|; the logarithm
    does not change a ranking and does not overflow. Of x only the shape counts. Minus infinity where no path is left.
    """
    bare = _bare(copy.deepcopy(network).double())
    with torch.no_grad():
        for p in bare.parameters():
            p.copy_(p.abs() if p.dim() > 1 else torch.zeros_like(p))
    weights = _weights(bare)
    total = bare(torch.ones(1, *x.shape[1:], dtype=torch.float64, device=x.device)).sum()
    gradients = torch.autograd.grad(total, weights, allow_unused=True)
    score = float(sum((w.detach() * g).sum() for w, g in zip(weights, gradients) if g is not None))
    return math.log(score) if score > 0 else -math.inf


def _bare(network: nn.Module) -> nn.Module:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, (*NORMS, *KINKS)):
                setattr(module, name, nn.Identity())
    return network


def parameters(arch: Arch, shape: Shape, classes: int) -> float:
    """The number of learned parameters."""
    return float(arch.parameters(shape, classes))


def flops(arch: Arch, shape: Shape, classes: int) -> float:
    """FLOPs of the forward pass of one image."""
    return float(arch.flops(shape, classes))


PROXIES: dict[str, Proxy] = {"grad_norm": grad_norm, "naswot": naswot, "snip": snip, "synflow": synflow}
COUNTS: dict[str, Callable[[Arch, Shape, int], float]] = {"parameters": parameters, "flops": flops}
