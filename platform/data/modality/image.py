"""Images: pixels in one or three channels, as uint8 [N, C, H, W]."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from raystill.platform.data.modality.contract import Encoded, Modality, Rendering, Request

if TYPE_CHECKING:
    from torch import Tensor

    from raystill.platform.data.sources.raw import Portion

SHIFT = 0.125
"""Largest translation of the augmentation, as a share of the side (DSA's crop, 2102.08259)."""

_FLOOR = 1e-3  # least standard deviation, so that a constant channel is only centred
_CHUNK = 1024

NARROW = 0.98  # images are shown in the natural range if at least this share of their pixels lies in it


def to_pixels(images: np.ndarray, normalisation: dict[str, Any] | None) -> tuple[np.ndarray, str]:
    """Convert normalised images to pixels.

    Distilled images may leave the range of photographs. Where too many values do, the whole set is rescaled by one
    pair of limits, so that images stay comparable.

    Args:
        images: float32 [S, M, C, H, W].
        normalisation: `mean` and `std` by channel, of pixels in 0..1; None takes the values as they are.

    Returns:
        uint8 [S, M, H, W, 3], and a sentence that explains the brightness.
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
    # one or two channels are shown as grey, channels beyond the third are left out
    pixels = np.repeat(pixels[..., :1], 3, -1) if channels < 3 else pixels[..., :3]
    return np.ascontiguousarray(pixels), words


def data_uri(pixels: np.ndarray) -> str:
    """A PNG data URI of uint8 [H, W, 3]."""
    picture, stream = Image.fromarray(pixels), io.BytesIO()
    grey = bool((pixels[..., :1] == pixels).all())
    (picture.convert("L") if grey else picture).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def decode(portions: Mapping[str, Portion], request: Request) -> Encoded:
    """Decode the images of every split.

    Raises:
        ValueError: as `sources.decode`, or a setting of texts is given.
    """
    from raystill.platform.data.sources.decode import decode

    spec = request.spec
    if spec.length is not None:
        raise ValueError(f"data.length: {spec.length} is for texts, and this source gives images; see data.size")
    return Encoded(decode(portions, spec.size, request.progress))


def numbers(x: Any, table: Any = None) -> Any:
    """Pixels / 255, float32 [n, C, H, W], of uint8; tensors of several channels are channels last."""
    if isinstance(x, np.ndarray):
        return x.astype(np.float32) / np.float32(255)
    import torch

    layout = torch.channels_last if x.shape[1] > 1 else torch.contiguous_format
    return x.to(torch.float32, memory_format=layout).div_(255)


def statistics(x: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of x / 255, from exact integer sums; x is uint8 [N, C, H, W]."""
    channels, pixels = x.shape[1], x[:, 0].size
    total, squares = np.zeros(channels, np.int64), np.zeros(channels, np.int64)
    for start in range(0, len(x), _CHUNK):
        piece = x[start : start + _CHUNK].astype(np.int64)
        total += piece.sum((0, 2, 3))
        squares += np.square(piece, out=piece).sum((0, 2, 3))
    sums = [(int(s), int(q)) for s, q in zip(total, squares)]
    mean = tuple(s / (255 * pixels) for s, _ in sums)
    std = tuple(max(_FLOOR, (q * pixels - s * s) ** 0.5 / (255 * pixels)) for s, q in sums)
    return mean, std


def average(x: np.ndarray, table: np.ndarray | None = None) -> np.ndarray:
    """The mean image, pixels / 255, float32 [C, H, W], of uint8 [n, C, H, W]."""
    mean: np.ndarray = (x.mean(axis=0, dtype=np.float64) / 255).astype(np.float32)
    return mean


def shift(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Shift each image (N, C, H, W) by up to an eighth of its width; the border is repeated."""
    import torch

    from raystill.platform.data.shift import shifted

    side = max(1, round(SHIFT * x.shape[3]))
    down, right = torch.from_numpy(side - rng.integers(0, 2 * side + 1, (len(x), 2))).to(x.device).T
    return shifted(x, down, right)


def render(x: np.ndarray, manifest: Mapping[str, Any]) -> Rendering:
    """Render images as PNG."""
    from markupsafe import Markup

    pixels, words = to_pixels(x, manifest.get("normalisation"))

    def html(step: int, position: int, alt: str) -> Markup:
        return Markup('<img src="{}" alt="{}">').format(data_uri(pixels[step, position]), alt)

    def picture(step: int, position: int, side: int) -> Image.Image:
        drawn = Image.fromarray(pixels[step, position])
        most = max(drawn.size)
        factor = max(1, round(side / most)) if most <= side else side / most
        size = (max(1, round(drawn.width * factor)), max(1, round(drawn.height * factor)))
        return drawn.resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS)

    return Rendering(words, html, picture)


IMAGE = Modality(
    "image", "image", decode, numbers, lambda shape: " × ".join(map(str, shape)), render,
    statistics=statistics, shift=shift, average=average, bounds=(0.0, 1.0),
)  # fmt: skip
