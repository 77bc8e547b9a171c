"""The generator's network as pure functions of its weights: a latent and a class become an image.

A hidden layer, a layer that makes a map of a quarter of the image's side, and twice: each pixel becomes four, then a
convolution of stride 1. Kernels whose size no stride divides paint checkerboards (Odena et al. 2016); with stride 1
each pixel is painted by as many weights as its neighbours.

Each image is a function of its own latent and class alone: no statistic of a batch enters, so that a curriculum in
another order, or of another length, holds the same images.
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
SLOPE = 0.1
KERNEL, STRIDE = 3, 1
assert KERNEL % STRIDE == 0


def _sides(shape: Shape) -> list[tuple[int, int]]:
    """Height and width of the maps: a quarter, a half and the whole of the image, rounded up."""
    (h, w) = shape[1:]
    return [(-(-h // k), -(-w // k)) for k in (4, 2, 1)]


def layers(part: SynthesizerSpec, shape: Shape, classes: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each layer's weight."""
    half = max(1, part.channels // 2)
    h, w = _sides(shape)[0]
    return {
        "hidden": (part.hidden, part.latent + classes),
        "map": (part.channels * h * w, part.hidden),
        "half": (half, part.channels, KERNEL, KERNEL),
        "whole": (shape[0], half, KERNEL, KERNEL),
    }


def start(part: SynthesizerSpec, shape: Shape, classes: int, address: seeds.Address) -> Meta:
    """First weights: normal, with the deviation that keeps the spread of activations (He 2015); zero biases.

    Under weight normalisation `name/g` [O, 1, ...] and `name/v` [O, ...] stand for `name/w`.
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
    """Each pixel of x[N, C, h, w] four times, cut to `side`; its derivative is a sum in a fixed order on any device."""
    n, c, h, w = x.shape
    large = x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)
    return large[..., : side[0], : side[1]]


def paint(part: SynthesizerSpec, shape: Shape, meta: Mapping[str, Tensor], z: Tensor, rows: Tensor) -> Tensor:
    """Images [N, C, H, W] in -REACH..REACH from latents z[N, latent] and one-hot classes rows[N, K]."""

    def weight(name: str) -> tuple[Tensor, Tensor]:
        w = normed(meta[f"{name}/v"], meta[f"{name}/g"]) if part.weight_norm else meta[f"{name}/w"]
        return w, meta[f"{name}/b"]

    quarter, half, whole = _sides(shape)
    x = F.leaky_relu(F.linear(torch.cat([z, rows], 1), *weight("hidden")), SLOPE)
    x = F.leaky_relu(F.linear(x, *weight("map")), SLOPE).unflatten(1, (part.channels, *quarter))
    x = F.leaky_relu(F.conv2d(_double(x, half), *weight("half"), stride=STRIDE, padding=KERNEL // 2), SLOPE)
    x = F.conv2d(_double(x, whole), *weight("whole"), stride=STRIDE, padding=KERNEL // 2)
    return REACH * torch.tanh(x / REACH)
