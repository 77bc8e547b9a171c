"""HTML for notebook cells: a heading, a table of facts and pictures, with all text escaped.

Runs and students' results use `card` and its pictures too.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from PIL import Image

from raystill.platform.artifacts.preview import preview

if TYPE_CHECKING:
    from raystill.platform.artifacts.distilled import Distilled

MOST_PICTURES = 40  # examples in the picture of a notebook
MOST_BYTES = 300_000  # of one PNG; a larger picture is halved in size
WIDTH, HEIGHT = 320, 90  # of a curve, in CSS pixels


def card(title: str, facts: Sequence[tuple[str, str]], *pictures: Markup, lead: str = "") -> str:
    """A value as HTML for a notebook cell, without scripts and style sheets.

    Args:
        title: heading of the card.
        facts: (name, value) for each row of the table.
        pictures: from `png` or `curve`.
        lead: a sentence below the title.
    """
    cell = Markup('style="text-align: left; padding: 2px 12px 2px 0"')
    rows = Markup("").join(
        Markup("<tr><th {} scope='row'>{}</th><td {}>{}</td></tr>").format(cell, name, cell, value)
        for name, value in facts
    )
    sentence = Markup("<p>{}</p>").format(lead) if lead else Markup()
    html = Markup('<div class="raystill"><p><b>{}</b></p>{}<table>{}</table>{}</div>')
    return str(html.format(title, sentence, rows, Markup("").join(pictures)))


def png(picture: Image.Image, words: str) -> Markup:
    """A picture of at most 300 kB as HTML, with alternative text."""
    while True:
        stream = io.BytesIO()
        picture.save(stream, "PNG", optimize=True)
        if len(stream.getvalue()) <= MOST_BYTES:
            break
        picture = picture.resize((max(1, picture.width // 2), max(1, picture.height // 2)), Image.Resampling.BOX)
    text = base64.b64encode(stream.getvalue()).decode()
    return Markup('<img src="data:image/png;base64,{}" alt="{}" style="max-width: 100%">').format(text, words)


def curve(y: np.ndarray, words: str, most: int = 200) -> Markup:
    """The finite values of y [N] as a line through at most `most` of them; empty for fewer than two."""
    y = y[np.isfinite(y)]
    if len(y) < 2:
        return Markup()
    y = y[np.linspace(0, len(y) - 1, min(most, len(y))).astype(int)]
    across = np.linspace(2, WIDTH - 2, len(y))
    down = 4 + (y.max() - y) / (np.ptp(y) or 1.0) * (HEIGHT - 8)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down))
    return Markup(
        '<figure style="margin: 8px 0"><svg viewBox="0 0 {} {}" width="{}" role="img" aria-label="{}">'
        '<polyline points="{}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
        "<figcaption>{}</figcaption></figure>"
    ).format(WIDTH, HEIGHT, WIDTH, words, points, words)


def title(d: Distilled) -> str:
    """`100 distilled images of digits`."""
    count = d.images.shape[0] * d.images.shape[1]
    source = d.manifest.get("spec", {}).get("data", {}).get("source")
    return d.modality.count(count, "distilled") + (f" of {source}" if source else "")


def facts(d: Distilled) -> list[tuple[str, str]]:
    """The main facts of distilled data as (name, value)."""
    steps, each, c, h, w = d.images.shape
    classes = d.manifest.get("classes")
    count = len(classes) if classes else d.labels.shape[2] if d.labels.ndim == 3 else int(d.labels.max()) + 1
    learner = d.manifest.get("learner", {}).get("name", "any network")
    start = "from fresh weights" if d.theta0 is None else f"from {len(d.theta0):,} weights of its own"
    rates = [f"{name.replace('lr', 'learning rate')} {_span(rate)}" for name, rate in d.rates.items()]
    rows = [
        (d.modality.plural, f"{steps} steps of {each}, each {d.modality.size((c, h, w))}"),
        ("labels", f"{'learned weights of' if d.labels.ndim == 3 else 'ids of'} {count} classes"),
        ("teaches", f"{learner} {start}"),
        ("inner steps", f"{len(d.order):,}; " + ", ".join(rates)),
    ]
    if d.generator is not None:
        rows.append(("longer", "its generator makes more steps: .longer(steps)"))
    return rows


def summary(d: Distilled) -> str:
    """Distilled data in one line."""
    return f"Distilled({title(d)}: " + "; ".join(f"{name} {value}" for name, value in facts(d)) + ")"


def html(d: Distilled) -> str:
    """Distilled data for a notebook: its facts and a picture of its first examples."""
    return card(title(d), facts(d), pictured(d))


def pictured(d: Distilled) -> Markup:
    """A picture of the first examples."""
    return png(preview(d, MOST_PICTURES), f"The first of {title(d)}, with their labels and learned rates")


def _span(values: np.ndarray) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"
