"""The generator's network as pure functions of its weights, from a latent and a class to an image.

Two linear layers give a map of a quarter of the image's side; it is doubled in size and convolved, twice. Kernels
whose size the stride does not divide leave checkerboards (Odena et al. 2016); stride 1 avoids them.

An image depends on its latent and class alone, on no statistics of a batch, so that a curriculum of another order or
length has the same images.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raystill.platform import seeds
from raystill.platform.learners.weight_norm import lengths, normed
from raystill.platform.spec import SynthesizerSpec
from raystill.platform.synthesis.synthesizer import Meta

Shape = tuple[int, int, int]
REACH = 3.0
"""Largest value of a pixel, in normalised units; real ones of MNIST lie in -0.4..2.8."""
SLOPE = 0.1  # of the leaky ReLUs
KERNEL, STRIDE = 3, 1
assert KERNEL % STRIDE == 0


def _sides(shape: Shape) -> list[tuple[int, int]]:
    """Height and width of the maps: a quarter, a half and the whole of the image, rounded up."""
    (h, w) = shape[1:]
    return [(-(-h // k), -(-w // k)) for k in (4, 2, 1)]


def layers(part: SynthesizerSpec, shape: Shape, classes: int) -> dict[str, tuple[int, ...]]:
    """The shape of each layer's weight, by name."""
    half = max(1, part.channels // 2)
    h, w = _sides(shape)[0]
    return {
        "hidden": (part.hidden, part.latent + classes),
        "map": (part.channels * h * w, part.hidden),
        "half": (half, part.channels, KERNEL, KERNEL),
        "whole": (shape[0], half, KERNEL, KERNEL),
    }


def start(part: SynthesizerSpec, shape: Shape, classes: int, address: seeds.Address) -> Meta:
    """Draw first weights: normal, with the deviation of He et al. 2015 for leaky ReLUs; zero biases.

    Args:
        part: the spec's section.
        shape: of an image (C, H, W).
        classes: K.
        address: of the draws.

    Returns:
        `name/w` [O, ...] and `name/b` [O]; under weight normalisation `name/g` [O, 1, ...] and `name/v` in place of w.
    """
    meta: Meta = {}
    for name, size in layers(part, shape, classes).items():
        v = torch.randn(size, generator=seeds.torch_rng(address.at(stream=f"{address.stream}/{name}")))
        v *= (2 / ((1 + SLOPE**2) * v[0].numel())) ** 0.5
        if part.weight_norm:
            meta[f"{name}/v"], meta[f"{name}/g"] = v.numpy(), lengths(v).numpy()
        else:
            meta[f"{name}/w"] = v.numpy()
        meta[f"{name}/b"] = np.zeros(size[0], np.float32)
    return meta


def names(part: SynthesizerSpec, shape: Shape, classes: int) -> list[str]:
    """The names of all weights, as `start` makes them."""
    kinds = ("v", "g", "b") if part.weight_norm else ("w", "b")
    return [f"{name}/{kind}" for name in layers(part, shape, classes) for kind in kinds]


def _double(x: Tensor, side: tuple[int, int]) -> Tensor:
    """Repeat each pixel of x[N, C, h, w] in both directions and crop to `side`; the gradient sums in a fixed order."""
    n, c, h, w = x.shape
    large = x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)
    return large[..., : side[0], : side[1]]


def paint(part: SynthesizerSpec, shape: Shape, meta: Mapping[str, Tensor], z: Tensor, rows: Tensor) -> Tensor:
    """Generate images from latents.

    Args:
        part: the spec's section.
        shape: of an image (C, H, W).
        meta: weights, named as by `start`.
        z: latents [N, latent].
        rows: one-hot classes [N, K].

    Returns:
        [N, C, H, W] in -REACH..REACH.
    """

    def weight(name: str) -> tuple[Tensor, Tensor]:
        w = normed(meta[f"{name}/v"], meta[f"{name}/g"]) if part.weight_norm else meta[f"{name}/w"]
        return w, meta[f"{name}/b"]

    quarter, half, whole = _sides(shape)
    x = F.leaky_relu(F.linear(torch.cat([z, rows], 1), *weight("hidden")), SLOPE)
    x = F.leaky_relu(F.linear(x, *weight("map")), SLOPE).unflatten(1, (part.channels, *quarter))
    x = F.leaky_relu(F.conv2d(_double(x, half), *weight("half"), stride=STRIDE, padding=KERNEL // 2), SLOPE)
    x = F.conv2d(_double(x, whole), *weight("whole"), stride=STRIDE, padding=KERNEL // 2)
    return REACH * torch.tanh(x / REACH)
