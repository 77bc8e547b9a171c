"""Initial weights as a function of their address alone, drawn on the CPU."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from raystill.platform.learners.weight_norm import DIRECTION, LENGTH, lengths


def _draw(weight: Tensor, scheme: str, gain: float, rng: torch.Generator) -> None:
    fan_in = weight[0].numel()
    fan_out = weight.shape[0] * (weight[0, 0].numel() if weight.dim() > 2 else 1)
    if scheme == "orthogonal":
        nn.init.orthogonal_(weight, gain, generator=rng)
    elif scheme == "default":
        weight.uniform_(-gain / math.sqrt(fan_in), gain / math.sqrt(fan_in), generator=rng)
    else:
        std = {"xavier": math.sqrt(2.0 / (fan_in + fan_out)), "kaiming": math.sqrt(2.0 / fan_in), "normal": 0.02}[
            scheme
        ]
        weight.normal_(0.0, gain * std, generator=rng)


@torch.no_grad()
def initialise(template: nn.Module, scheme: str, gain: float, rng: torch.Generator) -> Tensor:
    """Flat initial parameters theta0[P], in the order of `template.named_parameters()`.

    Matrices and kernels are drawn from `scheme`; their biases are zero (`default`: uniform in
    +-1/sqrt(fan_in), as torch's own layers); other vectors, norms' scales among them, keep the template's values.
    Under weight normalisation directions are drawn in this way and lengths follow from them: the function is the same
    as without it.

    Args:
        scheme: xavier (Glorot 2010, normal), kaiming (He 2015, normal, fan-in), orthogonal (Saxe 2014),
            normal (std 0.02) or default.
        gain: factor on the standard deviation.
    """
    weights = dict(template.named_parameters())
    values: dict[str, Tensor] = {}
    for name, parameter in weights.items():
        value = values[name] = parameter.detach().clone()
        if name.endswith(LENGTH):
            continue
        if value.dim() > 1:
            _draw(value, scheme, gain, rng)
            if name.endswith(DIRECTION):
                values[name[: -len(DIRECTION)] + LENGTH] = lengths(value)
        elif name.endswith("bias"):
            layer = name[: -len("bias")]
            partner = weights.get(f"{layer}weight", weights.get(layer + DIRECTION))
            if partner is not None and partner.dim() > 1:
                if scheme == "default":
                    bound = 1.0 / math.sqrt(partner[0].numel())
                    value.uniform_(-bound, bound, generator=rng)
                else:
                    value.zero_()
    return torch.cat([values[name].flatten() for name in weights])
