"""Series: numbers in an order, float32 [N, L]; an example has the shape (1, 1, L), and is shown as a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw

from raystill.platform.data.modality import Encoded, Modality, Rendering, Request

LINE = "#1f6feb"


def decode(portions: Mapping[str, Any], request: Request) -> Encoded:
    """Series of every split, all of one length.

    Raises:
        ValueError: series of other lengths, or numbers that are not finite.
    """
    x = {split: np.asarray(portion.images, np.float32) for split, portion in portions.items()}
    shapes = {part.shape[1:] for part in x.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise ValueError(f"data.source: series of the shapes {sorted(shapes)}; all need one length")
    if not all(np.isfinite(part).all() for part in x.values()):
        raise ValueError("data.source: a series has numbers that are not finite")
    return Encoded(x)


def statistics(x: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation over all numbers."""
    return (float(x.mean()),), (max(float(x.std()), 1e-3),)


def render(x: np.ndarray, manifest: Mapping[str, Any]) -> Rendering:
    """Lines from left to right; all examples share one vertical scale."""
    low, high = float(x.min()), float(x.max())

    def points(step: int, position: int, width: float, height: float) -> list[tuple[float, float]]:
        values = x[step, position].reshape(-1)
        across = np.linspace(0, width, len(values))
        down = (high - values) / ((high - low) or 1.0) * height
        return list(zip(across.tolist(), down.tolist()))

    def html(step: int, position: int, words: str) -> Markup:
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points(step, position, 100, 40))
        return Markup(
            '<svg class="series" viewBox="0 0 100 40" role="img" aria-label="{}">'
            '<polyline points="{}" fill="none" stroke="{}"/></svg>'
        ).format(words, line, LINE)

    def picture(step: int, position: int, side: int) -> Image.Image:
        canvas = Image.new("RGB", (side, side), "#ffffff")
        ImageDraw.Draw(canvas).line(points(step, position, side - 1, side - 1), fill=LINE, width=2)
        return canvas

    return Rendering(f"Each series as a line between {low:.2f} and {high:.2f}.", html, picture)


SERIES = Modality(
    name="series",
    noun="series",
    decode=decode,
    numbers=lambda x, table: x[:, None, None, :] + 0,
    size=lambda shape: f"{shape[2]} numbers",
    render=render,
    statistics=statistics,
    nouns="series",
)
