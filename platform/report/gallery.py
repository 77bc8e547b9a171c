"""The distilled images as the page shows them: step by step, with labels and learned rates."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

import numpy as np

from raystill.platform.artifacts import Distilled, sentences
from raystill.platform.artifacts.pixels import data_uri, name_of, strongest, to_pixels, uses
from raystill.platform.artifacts.sentences import Word

MOST_IMAGES = 600  # about 1 MB of 28 x 28 pictures; the artefact has them all
MOST_RATES = 6  # of one step, before they are shortened to the first and the last


@dataclass(frozen=True)
class Picture:
    """One image as a PNG data URI, or a sentence's words; what is written below, and a soft label as an SVG of bars."""

    uri: str
    alt: str
    caption: str
    bars: str
    words: list[Word] = field(default_factory=list)


@dataclass(frozen=True)
class StepView:
    """The images of one step and a sentence on when they are used and at what rates."""

    number: int
    used: str
    pictures: list[Picture]


@dataclass(frozen=True)
class Gallery:
    """All that is shown.

    Attributes:
        steps: in their order.
        brightness: a sentence on how pixels are shown.
        side, least: width of an image in CSS pixels, and the share of a narrow screen that it keeps, in percent.
        left_out: how many images are not shown.
    """

    steps: list[StepView]
    brightness: str
    side: int
    least: int
    left_out: int
    noun: str = "image"


def gallery(d: Distilled) -> Gallery:
    """Views of the distilled images, at most 600 of them."""
    noun, s, m = sentences.noun(d), *d.images.shape[:2]
    if noun == "image":
        pixels, brightness = to_pixels(d.images, d.manifest.get("normalisation"))
    else:
        brightness = sentences.about(d)
    soft = d.labels.ndim == 3
    classes = d.manifest.get("classes") or []
    per_step = min(m, MOST_IMAGES)
    shown = min(s, max(1, MOST_IMAGES // per_step))
    views = []
    for step in range(shown):
        pictures = []
        for i in range(per_step):
            label = d.labels[step, i]
            if soft:
                caption = " · ".join(f"{name}: {weight:.2f}" for name, weight in strongest(label, classes))
            else:
                caption = name_of(int(label), classes)
            alt = f"Distilled {noun} {i + 1} of step {step + 1}, label {caption}"
            uri = data_uri(pixels[step, i]) if noun == "image" else ""
            bars = _bars(label, classes) if soft else ""
            pictures.append(Picture(uri, alt, caption, bars, sentences.words(d, step, i)))
        views.append(StepView(step + 1, _used(d, step), pictures))
    # ten in a row on a desk and five on a phone, so that ten classes stand in whole rows
    side, least = (148, 29) if soft else (96, 17)
    if noun == "sentence":
        side, least = 340, 100
    return Gallery(views, brightness, side, least, s * m - shown * per_step, noun)


def _used(d: Distilled, step: int) -> str:
    used = uses(d.order, step)
    if not len(used):
        return "not used"
    where = _some([str(t + 1) for t in used])
    rates = [f"{name.replace('lr', 'learning rate')} {_some(_same(rate[used]))}" for name, rate in d.rates.items()]
    return f"inner step{'s' if len(used) > 1 else ''} {where} of {len(d.order)}; " + "; ".join(rates)


def _same(values: np.ndarray) -> list[str]:
    words = [f"{value:.3g}" for value in values]
    return words[:1] if len(set(words)) == 1 else words


def _some(words: list[str]) -> str:
    return ", ".join(words) if len(words) <= MOST_RATES else f"{words[0]}, {words[1]} … {words[-1]}"


def _bars(label: np.ndarray, classes: list[str]) -> str:
    """A soft label [K] as bars from a common zero line, 30 high and 10 wide each."""
    low, high = min(0.0, float(label.min())), max(0.0, float(label.max()))
    unit = 30 / ((high - low) or 1.0)
    zero, best = high * unit, int(label.argmax())
    words = ", ".join(f"{name_of(k, classes)}: {value:.2f}" for k, value in enumerate(label))
    parts = [
        f'<svg class="bars" viewBox="0 0 {10 * len(label)} 30" preserveAspectRatio="none" role="img">'
        f"<title>{escape(words)}</title>"
    ]
    for k, value in enumerate(label):
        top, height = zero - max(float(value), 0.0) * unit, abs(float(value)) * unit
        style = "best" if k == best else "rest"
        parts.append(f'<rect class="{style}" x="{10 * k + 1}" y="{top:.1f}" width="8" height="{height:.1f}"/>')
    parts.append(f'<path class="axis" d="M0 {zero:.1f}H{10 * len(label)}"/></svg>')
    return "".join(parts)
