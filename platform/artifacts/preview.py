"""`preview.png`: the distilled images with their labels, one block of rows for each step, learned rates beside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from raystill.platform.artifacts import sentences
from raystill.platform.artifacts.pixels import name_of, strongest, to_pixels, uses

if TYPE_CHECKING:
    from raystill.platform.artifacts.files import Distilled

PAPER, INK, FAINT, RULE, ACCENT, SOFT = "#ffffff", "#1b1f24", "#6a737d", "#d9dee3", "#1f6feb", "#a9c7f5"
MARGIN, GAP, GUTTER, CAPTION, BARS, HEADER = 28, 10, 160, 20, 34, 44
MOST_IMAGES, MOST_IN_STEP = 400, 200


@dataclass(frozen=True)
class _Grid:
    """Where things lie, in pixels of the picture."""

    steps: int  # shown, of S
    images: int  # shown of each step, of M
    columns: int
    cell: int  # side of one image
    below: int  # height of what stands below an image

    @property
    def rows(self) -> int:
        return -(-self.images // self.columns)

    @property
    def block(self) -> int:
        return self.rows * (self.cell + self.below + GAP)

    @property
    def size(self) -> tuple[int, int]:
        width = 2 * MARGIN + GUTTER + self.columns * (self.cell + GAP) - GAP
        return max(width, 520), 2 * MARGIN + HEADER + self.steps * (self.block + GAP) - 2 * GAP


def preview(distilled: Distilled, most: int = MOST_IMAGES) -> Image.Image:
    """The picture of distilled data, of at most `most` images or lines of sentences; it says what is left out."""
    if "text" in distilled.manifest:
        return sentences.picture(distilled, most=most)
    manifest, labels = distilled.manifest, distilled.labels
    pixels, _ = to_pixels(distilled.images, manifest.get("normalisation"))
    soft = labels.ndim == 3
    classes = manifest.get("classes") or [str(k) for k in range(labels.shape[2] if soft else int(labels.max()) + 1)]
    grid = _grid(pixels.shape, soft, most)
    canvas = Image.new("RGB", grid.size, PAPER)
    draw = ImageDraw.Draw(canvas)
    _header(draw, distilled, grid)
    top = MARGIN + HEADER
    for s in range(grid.steps):
        _gutter(draw, top, distilled, s)
        for m in range(grid.images):
            row, column = divmod(m, grid.columns)
            x = MARGIN + GUTTER + column * (grid.cell + GAP)
            y = top + row * (grid.cell + grid.below + GAP)
            canvas.paste(_scaled(pixels[s, m], grid.cell), (x, y))
            draw.rectangle((x - 1, y - 1, x + grid.cell, y + grid.cell), outline=RULE)
            if soft:
                _bars(draw, x, y + grid.cell + 5, grid.cell, labels[s, m])
                words = "  ".join(f"{name}: {weight:.2f}" for name, weight in strongest(labels[s, m], classes))
            else:
                words = name_of(int(labels[s, m]), classes)
            middle = (x + grid.cell / 2, y + grid.cell + grid.below - CAPTION / 2)
            draw.text(middle, _fit(draw, words, grid.cell, 12), INK, font(12), anchor="mm")
        top += grid.block + GAP
    return canvas


def _grid(shape: tuple[int, ...], soft: bool, most: int) -> _Grid:
    """Cells of about 84 pixels (128 with soft labels), by a whole factor of the image's side where that is smaller."""
    s, m, height, width = shape[:4]
    target, side = (128 if soft else 84), max(height, width)
    cell = side * max(1, round(target / side)) if side <= target else target
    images = min(m, MOST_IN_STEP, most)
    columns = min(images, 10 if images <= 100 else 20, 6 if soft else 20)
    return _Grid(min(s, max(1, most // images)), images, columns, cell, CAPTION + (BARS if soft else 0))


def _header(draw: ImageDraw.ImageDraw, d: Distilled, grid: _Grid) -> None:
    s, m = d.images.shape[:2]
    spec = d.manifest.get("spec", {})
    source, learner = spec.get("data", {}).get("source"), d.manifest.get("learner", {}).get("name")
    title = f"{s * m} distilled image{'s' * (s * m > 1)}" + (f" of {source}" if source else "")
    facts = [f"{s} step{'s' * (s > 1)} of {m}", f"{len(d.order)} inner steps", f"for {learner}" if learner else ""]
    if (grid.steps, grid.images) != (s, m):
        facts.append(f"{s * m - grid.steps * grid.images} not shown")
    draw.text((MARGIN, MARGIN - 4), title, INK, font(17, bold=True))
    draw.text((MARGIN, MARGIN + 19), " · ".join(filter(None, facts)), FAINT, font(12))


def _gutter(draw: ImageDraw.ImageDraw, top: int, d: Distilled, s: int) -> None:
    used = uses(d.order, s)
    draw.text((MARGIN, top), f"step {s + 1}", INK, font(13, bold=True))
    words = []
    for name, rate in d.rates.items():
        values = [f"{value:.3g}" for value in rate[used]]
        if len(set(values)) <= 1:
            values = values[:1]
        # two rates of three values each would run into the next step's
        few = len(values) <= (3 if len(d.rates) == 1 else 1)
        words += [f"{name}  {v}" for v in values] if few else [f"{name}  {_span(values[0], values[-1])}"]
    if len(used) > 3:
        words.append(f"used {len(used)} times")
    for line, word in enumerate(words):
        draw.text((MARGIN, top + 20 + 16 * line), _fit(draw, word, GUTTER - 8, 11), FAINT, font(11))


def _span(first: str, last: str) -> str:
    return f"about {first}" if first == last else f"{first} → {last}"


def _bars(draw: ImageDraw.ImageDraw, x: int, y: int, width: int, label: np.ndarray) -> None:
    """A soft label as bars from a common zero line; the strongest class stands out."""
    height, k = BARS - 6, len(label)
    if k > width:
        return  # less than a pixel a class; the caption still names the strongest
    low, high = min(0.0, float(label.min())), max(0.0, float(label.max()))
    unit = height / ((high - low) or 1.0)
    zero = y + high * unit
    for i, value in enumerate(label):
        left, right = x + i * width / k, x + (i + 1) * width / k - (2 if width / k >= 5 else 1)
        ends = sorted((zero, zero - float(value) * unit))
        draw.rectangle((left, ends[0], max(left, right), ends[1]), fill=ACCENT if i == int(label.argmax()) else SOFT)
    draw.line((x, zero, x + width, zero), fill=RULE)


def _scaled(pixels: np.ndarray, cell: int) -> Image.Image:
    picture = Image.fromarray(pixels)
    factor = cell / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS)


def _fit(draw: ImageDraw.ImageDraw, words: str, width: int, size: int) -> str:
    if draw.textlength(words, font(size)) <= width:
        return words
    while words and draw.textlength(words + "…", font(size)) > width:
        words = words[:-1]
    return words.rstrip() + "…"


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font of a size in pixels."""
    # the font that comes with matplotlib: the same on every machine
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)
