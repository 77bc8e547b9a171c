"""Differentiable siamese augmentation of synthesised batches (Zhao and Bilen 2021, 2102.08259).

All images of an inner step share one draw. Geometric changes are one affine map, sampled bilinearly, or a mirror;
colour changes are an affine map of the values. Both are linear in the images, so that gradients pass. Networks that
learn from the artefact see the plain images.
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
    """Sample images at `matrix` times the output's coordinates, which span -1..1; pixels outside are 0, the mean."""
    theta = torch.tensor(matrix, dtype=x.dtype, device=x.device).expand(len(x), 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def flip(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirror with probability one half."""
    return x.flip(-1) if rng.random() < 0.5 else x


def shift(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Shift by up to an eighth of each side, in whole pixels; pixels from outside are 0, the mean."""
    down, right = (int(rng.integers(-(most := round(SHIFT * n)), most + 1)) for n in x.shape[-2:])
    return shifted(x, down, right, padding="zeros")


def scale(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Scale each side by a factor of its own between 1 / 1.2 and 1.2."""
    a, b = (float(v) for v in rng.uniform(1 / SCALE, SCALE, 2))
    return _affine(x, [[a, 0, 0], [0, b, 0]])


def rotate(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Rotate by up to 15 degrees."""
    angle = math.radians(float(rng.uniform(-ROTATE, ROTATE)))
    return _affine(x, [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]])


def colour(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Add brightness, then scale saturation around each pixel's grey and contrast around each image's mean."""
    brightness, saturation, contrast = (float(v) for v in rng.uniform(-1, 1, 3))
    x = x + BRIGHTNESS * brightness
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + SATURATION * saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (1 + CONTRAST * contrast)


AUGMENTATIONS: dict[str, Augmentation] = {
    "flip": flip, "shift": shift, "scale": scale, "rotate": rotate, "colour": colour,
}  # fmt: skip


def augmented(x: Tensor, names: Sequence[str], address: Address) -> Tensor:
    """Apply augmentations to each inner step's images.

    Args:
        x: [T, M, C, H, W].
        names: keys of `AUGMENTATIONS`, in their order.
        address: of the draws; each inner step has its own.
    """
    out = []
    for t in range(len(x)):
        step = x[t]
        for name in names:
            rng = numpy_rng(address.at(stream=f"{address.stream}/{name}/{t}"))
            step = AUGMENTATIONS[name](step, rng)
        out.append(step)
    return torch.stack(out)
