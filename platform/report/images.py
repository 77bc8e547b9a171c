"""The section of a page that shows the distilled examples, step by step, with labels and learned rates."""

from __future__ import annotations

import base64
from html import escape

import numpy as np
from markupsafe import Markup

from raystill.platform.artifacts import Distilled
from raystill.platform.artifacts.labels import name_of, strongest, uses
from raystill.platform.data.modality import Rendering
from raystill.platform.report.page import joined, paragraph, section

MOST_IMAGES = 600  # about 1 MB of 28 x 28 pictures; the artefact has them all
MOST_RATES = 6  # shown of one step; of more, the first two and the last
# width of an image in CSS pixels, and its least share of a narrow screen in percent:
# ten in a row on a desk and five on a phone, so that ten classes fill whole rows
HARD, SOFT = (96, 17), (148, 29)


def images(d: Distilled, before: bytes | None) -> Markup:
    """The section, with at most 600 images.

    Args:
        d: the distilled data.
        before: PNG of the images before the first step, if there is one.
    """
    steps, per_step = d.images.shape[:2]
    rendering = d.modality.render(d.images, d.manifest)
    most = min(per_step, MOST_IMAGES)
    shown = min(steps, max(1, MOST_IMAGES // most))
    left_out = steps * per_step - shown * most
    more = f" {left_out:,} more are in the artefact." if left_out else ""
    figures = [_step(d, step, most, rendering) for step in range(shown)]
    return section("images", f"The {d.modality.plural}", paragraph(rendering.words + more), *figures, _before(before))


def _before(png: bytes | None) -> Markup:
    if png is None:
        return Markup()
    return Markup(
        '<details class="before"><summary>What they were before the first step</summary><img '
        'src="data:image/png;base64,{}" alt="The images before the first step, with their labels" loading="lazy">'
        "</details>"
    ).format(base64.b64encode(png).decode())


def _step(d: Distilled, step: int, most: int, rendering: Rendering) -> Markup:
    """The examples of one step, and when they are used at what rates."""
    pictures = joined((_example(d, step, i, rendering) for i in range(most)), "\n")
    side, least = rendering.width or (SOFT if d.labels.ndim == 3 else HARD)
    return Markup(
        '<figure class="step"><figcaption><b>Step {}</b> <span>{}</span></figcaption>\n'
        '<div class="grid" style="--side: {}px; --least: {}%">\n{}\n</div></figure>'
    ).format(step + 1, _used(d, step), side, least, pictures)


def _example(d: Distilled, step: int, i: int, rendering: Rendering) -> Markup:
    """One example, its soft label as bars, and its label in words."""
    classes, label = d.manifest.get("classes") or [], d.labels[step, i]
    bars, caption = Markup(), ""
    if d.labels.ndim == 3:
        bars = _bars(label, classes)
        caption = " · ".join(f"{name}: {weight:.2f}" for name, weight in strongest(label, classes))
    else:
        caption = name_of(int(label), classes)
    alt = f"Distilled {d.modality.noun} {i + 1} of step {step + 1}, label {caption}"
    picture = rendering.html(step, i, alt)
    return Markup('<div class="picture">{}{}<span>{}</span></div>').format(picture, bars, caption)


def _used(d: Distilled, step: int) -> str:
    used = uses(d.order, step)
    if not len(used):
        return "not used"
    places = _some([str(t + 1) for t in used])
    rates = [f"{name.replace('lr', 'learning rate')} {_some(_same(rate[used]))}" for name, rate in d.rates.items()]
    return f"inner step{'s' if len(used) > 1 else ''} {places} of {len(d.order)}; " + "; ".join(rates)


def _same(values: np.ndarray) -> list[str]:
    words = [f"{value:.3g}" for value in values]
    return words[:1] if len(set(words)) == 1 else words


def _some(words: list[str]) -> str:
    return ", ".join(words) if len(words) <= MOST_RATES else f"{words[0]}, {words[1]} … {words[-1]}"


def _bars(label: np.ndarray, classes: list[str]) -> Markup:
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
    return Markup("".join(parts))
