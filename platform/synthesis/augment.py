"""Differentiable augmentation of synthesised batches, as in "Dataset Condensation with Differentiable Siamese
Augmentation" (2102.08259): one draw for all images of an inner step, so that a step stays one batch.

Geometry is one affine map sampled bilinearly (or a mirror), colour an affine map of the values: both are linear in the
images, and gradients pass as through any layer. Networks that learn from the result later see the plain images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raystill.platform.data.shift import shifted
from raystill.platform.seeds import Address, numpy_rng

Augmentation = Callable[[Tensor, np.random.Generator], Tensor]
"""(images [M, C, H, W], generator) -> the same shape."""

SHIFT = 0.125
"""Largest translation, as a share of the side (DSA's crop)."""

SCALE = 1.2
"""Largest enlargement and, inverted, reduction (DSA)."""

ROTATE = 15.0
"""Largest rotation in degrees (DSA)."""

BRIGHTNESS, CONTRAST, SATURATION = 0.5, 0.5, 0.5
"""Half-widths of the uniform draws around no change, in normalised units."""


def _affine(x: Tensor, matrix: Sequence[Sequence[float]]) -> Tensor:
    """Images sampled at `matrix` times the coordinates of the output, which span -1..1; outside is 0, the mean."""
    theta = torch.tensor(matrix, dtype=x.dtype, device=x.device).expand(len(x), 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def flip(x: Tensor, rng: np.random.Generator) -> Tensor:
    """A mirror image, half of the time."""
    return x.flip(-1) if rng.random() < 0.5 else x


def shift(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Moved by up to an eighth of the side, in whole pixels; what enters is 0, the mean."""
    down, right = (int(rng.integers(-(most := round(SHIFT * n)), most + 1)) for n in x.shape[-2:])
    return shifted(x, down, right, padding="zeros")


def scale(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Each side by a factor of its own between 1 / 1.2 and 1.2."""
    a, b = (float(v) for v in rng.uniform(1 / SCALE, SCALE, 2))
    return _affine(x, [[a, 0, 0], [0, b, 0]])


def rotate(x: Tensor, rng: np.random.Generator) -> Tensor:
    """By up to 15 degrees."""
    angle = math.radians(float(rng.uniform(-ROTATE, ROTATE)))
    return _affine(x, [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]])


def colour(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Brightness added, saturation around each pixel's grey, contrast around each image's mean."""
    brightness, saturation, contrast = (float(v) for v in rng.uniform(-1, 1, 3))
    x = x + BRIGHTNESS * brightness
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + SATURATION * saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (1 + CONTRAST * contrast)


AUGMENTATIONS: dict[str, Augmentation] = {
    "flip": flip,
    "shift": shift,
    "scale": scale,
    "rotate": rotate,
    "colour": colour,
}


def augmented(x: Tensor, names: Sequence[str], address: Address) -> Tensor:
    """Every inner step's images x[T, M, C, H, W] changed by the named augmentations, in their order.

    Args:
        address: names the draws; each inner step has its own.
    """
    out = []
    for t in range(len(x)):
        step = x[t]
        for name in names:
            rng = numpy_rng(address.at(stream=f"{address.stream}/{name}/{t}"))
            step = AUGMENTATIONS[name](step, rng)
        out.append(step)
    return torch.stack(out)
