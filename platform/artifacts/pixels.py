"""Distilled images as pixels that can be looked at, and labels as words."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

NARROW = 0.98  # share of pixels inside the natural range above which that range is shown


def to_pixels(images: np.ndarray, normalisation: dict[str, Any] | None) -> tuple[np.ndarray, str]:
    """Pixels of normalised images.

    Distilled images are not bound to the range of photographs. Where too many values leave it, the whole set is
    stretched by one pair of limits, so that images stay comparable with each other.

    Args:
        images: float32 [S, M, C, H, W].
        normalisation: `mean` and `std` by channel, of pixels in 0..1; None shows the values as they are.

    Returns:
        uint8 [S, M, H, W, 3], and a sentence on how brightness is shown.
    """
    values = images.astype(np.float64)
    if normalisation:
        mean, std = (np.asarray(normalisation[key], np.float64).reshape(-1, 1, 1) for key in ("mean", "std"))
        values = values * std + mean
    low, high, words = 0.0, 1.0, "Shown in the natural range of pixels."
    if ((values > -0.02) & (values < 1.02)).mean() < NARROW:
        low, high = (float(q) for q in np.percentile(values, (1, 99)))
        words = f"Shown with black at {low:.2f} and white at {high:.2f}, where photographs have 0 and 1."
    if high <= low:
        high = low + 1.0
    pixels = np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    pixels = np.moveaxis(pixels, 2, -1)
    channels = pixels.shape[-1]
    # grey for one channel; channels beyond the third can not be shown
    pixels = np.repeat(pixels[..., :1], 3, -1) if channels < 3 else pixels[..., :3]
    return np.ascontiguousarray(pixels), words


def data_uri(pixels: np.ndarray) -> str:
    """A PNG data URI of uint8 [H, W, 3]."""
    picture, stream = Image.fromarray(pixels), io.BytesIO()
    grey = bool((pixels[..., :1] == pixels).all())
    (picture.convert("L") if grey else picture).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def strongest(label: np.ndarray, classes: Sequence[str], count: int = 2) -> list[tuple[str, float]]:
    """The classes with the highest weights of a soft label [K], highest first."""
    top = np.argsort(-label, kind="stable")[:count]
    return [(name_of(int(k), classes), float(label[k])) for k in top]


def name_of(label: int, classes: Sequence[str]) -> str:
    """The class name of an id; the id where there is none."""
    return str(classes[label]) if label < len(classes) else str(label)


def uses(order: np.ndarray, step: int) -> np.ndarray:
    """The inner steps that use a step's images, int64 [U]."""
    return np.flatnonzero(order == step)
