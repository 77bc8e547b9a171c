"""Weight normalisation, W = g V / ||V|| (1602.07868): a layer's direction and its length as two parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

LENGTH, DIRECTION = "parametrizations.weight.original0", "parametrizations.weight.original1"
"""torch's names of the two parameters, after the layer's own name."""


def lengths(v: Tensor) -> Tensor:
    """||V|| of each row (output unit or channel) of v[O, ...], as [O, 1, ...]."""
    return v.flatten(1).square().sum(1).sqrt().view(-1, *(1,) * (v.dim() - 1))


def normed(v: Tensor, g: Tensor) -> Tensor:
    """W = g V / ||V||, row by row; v[O, ...], g[O, 1, ...]. Differentiable any number of times, and under vmap."""
    return v * (g / lengths(v))


class WeightNorm(nn.Module):
    """`normed` as a parametrisation; torch's own has no forward-mode derivative."""

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """W of length and direction."""
        return normed(v, g)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(g, V) of a weight: V = W, g = ||W||."""
        return lengths(weight), weight


def weight_normed(module: nn.Module) -> nn.Module:
    """Write the weight of every linear map and convolution of a module as g V / ||V||, in place; the function stays.

    A zero row has no direction: V is set to ones there, and g is 0.

    Raises:
        ValueError: the module has no linear map or convolution.
    """
    layers = [m for m in module.modules() if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd))]
    if not layers:
        raise ValueError(f"learner.weight_norm: {type(module).__name__} has no linear map or convolution to normalise")
    for layer in layers:
        if not parametrize.is_parametrized(layer, "weight"):
            _split(layer)
    return module


@torch.no_grad()
def _split(layer: nn.Module) -> None:
    parametrize.register_parametrization(layer, "weight", WeightNorm())
    g, v = (layer.get_parameter(name) for name in (LENGTH, DIRECTION))
    v[g.flatten() == 0] = 1.0
