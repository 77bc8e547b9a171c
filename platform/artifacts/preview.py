"""`preview.png`: the distilled images with their labels, one block of rows for each step, learned rates beside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from raystill.platform.artifacts.labels import name_of, strongest, uses
from raystill.platform.data.modality.text import font

if TYPE_CHECKING:
    from raystill.platform.artifacts.files import Distilled
    from raystill.platform.data.modality import Rendering

PAPER, INK, FAINT, RULE, ACCENT, SOFT = "#ffffff", "#1b1f24", "#6a737d", "#d9dee3", "#1f6feb", "#a9c7f5"
MARGIN, GAP, GUTTER, CAPTION, BARS, HEADER = 28, 10, 160, 20, 34, 44
MOST_IMAGES, MOST_IN_STEP, MOST_WIDTH = 400, 200, 2000


@dataclass(frozen=True)
class _Grid:
    """The layout, in pixels."""

    steps: int  # shown, of S
    images: int  # shown of each step, of M
    columns: int
    width: int  # of one example
    height: int
    below: int  # height of bars and caption

    @property
    def rows(self) -> int:
        return -(-self.images // self.columns)

    @property
    def block(self) -> int:
        return self.rows * (self.height + self.below + GAP)

    @property
    def size(self) -> tuple[int, int]:
        width = 2 * MARGIN + GUTTER + self.columns * (self.width + GAP) - GAP
        return max(width, 520), 2 * MARGIN + HEADER + self.steps * (self.block + GAP) - 2 * GAP


def preview(distilled: Distilled, most: int = MOST_IMAGES) -> Image.Image:
    """Draw at most `most` distilled examples; the header states how many are left out."""
    manifest, labels = distilled.manifest, distilled.labels
    soft = labels.ndim == 3
    rendering = distilled.modality.render(distilled.images, manifest)
    pictures = _pictures(rendering, distilled.images.shape, soft, most)
    classes = manifest.get("classes") or [str(k) for k in range(labels.shape[2] if soft else int(labels.max()) + 1)]
    grid = _grid(pictures, soft)
    canvas = Image.new("RGB", grid.size, PAPER)
    draw = ImageDraw.Draw(canvas)
    _header(draw, distilled, grid)
    top = MARGIN + HEADER
    for s in range(grid.steps):
        _gutter(draw, top, distilled, s)
        for m in range(grid.images):
            row, column = divmod(m, grid.columns)
            x = MARGIN + GUTTER + column * (grid.width + GAP)
            y = top + row * (grid.height + grid.below + GAP)
            canvas.paste(pictures[s][m], (x, y))
            draw.rectangle((x - 1, y - 1, x + grid.width, y + grid.height), outline=RULE)
            if soft:
                _bars(draw, x, y + grid.height + 5, grid.width, labels[s, m])
                words = "  ".join(f"{name}: {weight:.2f}" for name, weight in strongest(labels[s, m], classes))
            else:
                words = name_of(int(labels[s, m]), classes)
            middle = (x + grid.width / 2, y + grid.height + grid.below - CAPTION / 2)
            draw.text(middle, _fit(draw, words, grid.width, 12), INK, font(12), anchor="mm")
        top += grid.block + GAP
    return canvas


def _pictures(rendering: Rendering, shape: tuple[int, ...], soft: bool, most: int) -> list[list[Image.Image]]:
    """The pictures of the drawn examples, by step: about 84 pixels wide, 128 with soft labels."""
    s, m = shape[:2]
    each = min(m, MOST_IN_STEP, most)
    steps = min(s, max(1, most // each))
    return [[rendering.picture(step, i, 128 if soft else 84) for i in range(each)] for step in range(steps)]


def _grid(pictures: list[list[Image.Image]], soft: bool) -> _Grid:
    """A grid whose cells fit the largest picture."""
    drawn = [picture for step in pictures for picture in step]
    width, height = max(p.width for p in drawn), max(p.height for p in drawn)
    each = len(pictures[0])
    columns = min(each, 10 if each <= 100 else 20, 6 if soft else 20, max(1, MOST_WIDTH // (width + GAP)))
    return _Grid(len(pictures), each, columns, width, height, CAPTION + (BARS if soft else 0))


def _header(draw: ImageDraw.ImageDraw, d: Distilled, grid: _Grid) -> None:
    s, m = d.images.shape[:2]
    spec = d.manifest.get("spec", {})
    source, learner = spec.get("data", {}).get("source"), d.manifest.get("learner", {}).get("name")
    title = d.modality.count(s * m, "distilled") + (f" of {source}" if source else "")
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
        # two rates of three values each would overlap the next step
        few = len(values) <= (3 if len(d.rates) == 1 else 1)
        words += [f"{name}  {v}" for v in values] if few else [f"{name}  {_span(values[0], values[-1])}"]
    if len(used) > 3:
        words.append(f"used {len(used)} times")
    for line, word in enumerate(words):
        draw.text((MARGIN, top + 20 + 16 * line), _fit(draw, word, GUTTER - 8, 11), FAINT, font(11))


def _span(first: str, last: str) -> str:
    return f"about {first}" if first == last else f"{first} → {last}"


def _bars(draw: ImageDraw.ImageDraw, x: int, y: int, width: int, label: np.ndarray) -> None:
    """Draw a soft label as bars from a common zero line; the strongest class has another colour."""
    height, k = BARS - 6, len(label)
    if k > width:
        return  # less than a pixel for each class; the caption names the strongest
    low, high = min(0.0, float(label.min())), max(0.0, float(label.max()))
    unit = height / ((high - low) or 1.0)
    zero = y + high * unit
    for i, value in enumerate(label):
        left, right = x + i * width / k, x + (i + 1) * width / k - (2 if width / k >= 5 else 1)
        ends = sorted((zero, zero - float(value) * unit))
        draw.rectangle((left, ends[0], max(left, right), ends[1]), fill=ACCENT if i == int(label.argmax()) else SOFT)
    draw.line((x, zero, x + width, zero), fill=RULE)


def _fit(draw: ImageDraw.ImageDraw, words: str, width: int, size: int) -> str:
    if draw.textlength(words, font(size)) <= width:
        return words
    while words and draw.textlength(words + "…", font(size)) > width:
        words = words[:-1]
    return words.rstrip() + "…"
