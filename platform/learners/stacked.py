"""Many networks of one architecture as one network: channels side by side, and grouped convolutions.

`vmap` computes the same, but keeps the maps of each network together in memory. With channels last, those of all
networks together, oneDNN's grouped convolutions take a third of the time on a CPU and pooling a tenth (16 LeNets, 16
images). Layers without a rule here are left to `vmap`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raystill.platform.learners.networks import MaxPool2, _Flat, _GreyConv2d

Apply = Callable[[Tensor, Tensor], Tensor]
Rule = Callable[[nn.Module, list[Tensor], Tensor, bool], Tensor]
"""(layer, its parameters [n, ...], maps, are the maps shared) -> maps [B, n * C, H, W]; shared are maps [B, C, H, W] of
all networks alike, as the images are."""


def _convolution(layer: nn.Module, own: list[Tensor], x: Tensor, shared: bool) -> Tensor:
    assert isinstance(layer, nn.Conv2d)
    weight, bias = own[0].flatten(0, 1), own[1].flatten() if len(own) > 1 else None
    x = x.contiguous(memory_format=torch.channels_last)
    return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, 1 if shared else len(own[0]))


def _grey(layer: nn.Module, own: list[Tensor], x: Tensor, shared: bool) -> Tensor:
    """A convolution of one channel: a product of patches with the filters of all networks."""
    if not shared:
        return _convolution(layer, own, x, shared)
    assert isinstance(layer, nn.Conv2d)
    patches = F.unfold(x, layer.kernel_size, padding=layer.padding).mT  # type: ignore[arg-type]
    patches = F.pad(patches, (0, 1), value=1.0).flatten(0, 1)  # a one for the bias, which saves a pass over all maps
    y = patches @ torch.cat([own[0].flatten(2), own[1][..., None]], 2).flatten(0, 1).T
    height = x.shape[2] + 2 * layer.padding[0] - layer.kernel_size[0] + 1  # type: ignore[operator]
    return y.view(len(x), height, -1, y.shape[1]).permute(0, 3, 1, 2)


def _norm(layer: nn.Module, own: list[Tensor], x: Tensor, shared: bool) -> Tensor:
    assert isinstance(layer, nn.GroupNorm)
    groups = layer.num_groups * (1 if shared else len(own[0]))
    return F.group_norm(x, groups, own[0].flatten(), own[1].flatten(), layer.eps)


def _plain(layer: nn.Module, own: list[Tensor], x: Tensor, shared: bool) -> Tensor:
    maps: Tensor = layer(x)
    return maps


RULES: dict[type[nn.Module], Rule] = {
    nn.Conv2d: _convolution, _GreyConv2d: _grey, nn.GroupNorm: _norm,
    MaxPool2: _plain, nn.ReLU: _plain, nn.AvgPool2d: _plain, nn.MaxPool2d: _plain, nn.Identity: _plain,
}  # fmt: skip
"""Exact type of a layer -> its rule."""


def _known(layer: nn.Module, first: bool) -> bool:
    if isinstance(layer, nn.Conv2d) and (layer.groups > 1 or layer.padding_mode != "zeros"):
        return False
    if isinstance(layer, nn.GroupNorm) and (first or not layer.affine):
        return False
    return type(layer) in RULES


def stacked(module: nn.Module) -> Apply | None:
    """Many networks as one function, or None where a layer has no rule.

    Returns:
        (theta [S, n, P], x [S, B, C, H, W]) -> logits [S, n, B, K]: n networks see the images of each of S batches. The
        same as the module's own to round-off, and differentiable once.
    """
    if type(module) is not _Flat or any(type(layer) is not nn.Linear for layer in module.head):
        return None
    layers = list(module.features) if isinstance(module.features, nn.Sequential) else [module.features]
    if not all(_known(layer, not at) for at, layer in enumerate(layers)):
        return None
    shapes = [p.shape for p in module.parameters()]
    sizes = [shape.numel() for shape in shapes]
    counts = [len(list(layer.parameters())) for layer in layers]

    def features(parts: list[Tensor], x: Tensor) -> Tensor:  # [n, F, B]: so are gradients of weights as weights are
        at, shared = 0, True
        for layer, count in zip(layers, counts):
            x = RULES[type(layer)](layer, parts[at : at + count], x, shared)
            at, shared = at + count, shared and not count
        n = len(parts[0])
        return x.flatten(1).T.expand(n, -1, -1) if shared else x.reshape(len(x), n, -1).permute(1, 2, 0)

    def apply(theta: Tensor, x: Tensor) -> Tensor:
        seeds, n = theta.shape[:2]
        parts = [t.unflatten(2, s) for t, s in zip(theta.split(sizes, 2), shapes)]
        each = [features([p[s] for p in parts], x[s]) for s in range(seeds)]
        z = torch.cat(each) if seeds > 1 else each[0]
        head = [p.flatten(0, 1) for p in parts[sum(counts) :]]
        for at in range(0, len(head), 2):
            z = torch.baddbmm(head[at + 1][:, :, None], head[at], F.relu(z) if at else z)
        return z.mT.unflatten(0, (seeds, n))

    return apply
