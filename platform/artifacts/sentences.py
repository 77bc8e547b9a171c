"""Distilled sentences to look at: the word that each token is nearest to, as strong as the two agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageDraw
from PIL.ImageFont import FreeTypeFont

from raystill.platform.artifacts.pixels import name_of, strongest, uses

if TYPE_CHECKING:
    from raystill.platform.artifacts.files import Distilled

MOST_LINES = 400
PAPER, INK = (255, 255, 255), (27, 31, 36)


class Word(NamedTuple):
    """The word nearest to a token, the cosine between their vectors, and how dark it is shown, 0.25 to 1."""

    word: str
    cosine: float
    strength: float


def noun(d: Distilled) -> str:
    """What an example is called."""
    return "sentence" if "text" in d.manifest else "image"


def words(d: Distilled, step: int, position: int) -> list[Word]:
    """The tokens of one distilled sentence as words, in their order; none of an image."""
    text = d.manifest.get("text")
    if text is None:
        return []
    pairs = zip(text["nearest"][step][position], text["cosines"][step][position])
    return [Word(word, cosine, min(1.0, max(0.25, 1.6 * float(cosine)))) for word, cosine in pairs]


def about(d: Distilled) -> str:
    """A sentence on how tokens are shown."""
    text = d.manifest["text"]
    cosines = [c for step in text["cosines"] for sentence in step for c in sentence]
    return (
        f"Each of the {text['length']} tokens as the word whose vector is nearest to it, the darker the nearer; their "
        f"cosine is {sum(cosines) / len(cosines):.2f} on average. Vectors: {text['embeddings']}."
    )


def lines(draw: ImageDraw.ImageDraw, found: list[Word], width: int, font: FreeTypeFont) -> list[list[tuple[int, Word]]]:
    """Words set in lines of `width` pixels, each with its place in the line."""
    set_: list[list[tuple[int, Word]]] = [[]]
    at = 0
    for item in found:
        long = int(draw.textlength(item.word + " ", font=font))
        if at and at + long > width:
            set_.append([])
            at = 0
        set_[-1].append((at, item))
        at += long
    return set_


def picture(d: Distilled, width: int = 1000, most: int = MOST_LINES) -> Image.Image:
    """The sentences with their labels and rates as one picture; at most `most` lines are drawn."""
    from raystill.platform.artifacts.preview import font

    rows = _rows(d, width - 240, font(13))
    shown = rows[:most]
    canvas = Image.new("RGB", (width, 40 + 20 * (len(shown) + (len(rows) > len(shown)))), PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, (head, line) in enumerate(shown):
        y = 20 + 20 * i
        draw.text((20, y), head[: 140 if not line else 34], INK, font(13, bold=True) if not line else font(11))
        for at, item in line:
            grey = tuple(round(p + (k - p) * item.strength) for p, k in zip(PAPER, INK))
            draw.text((220 + at, y), item.word, grey, font(13))
    if len(rows) > len(shown):
        draw.text((20, 20 + 20 * len(shown)), f"{len(rows) - len(shown)} more lines are not shown", INK, font(11))
    return canvas


def _rows(d: Distilled, width: int, font: FreeTypeFont) -> list[tuple[str, list[tuple[int, Word]]]]:
    """(what stands at the left, words) of each line; a step's first line has its rates and no words."""
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    classes, soft = d.manifest.get("classes") or [], d.labels.ndim == 3
    rows: list[tuple[str, list[tuple[int, Word]]]] = []
    for s, labels in enumerate(d.labels):
        used = uses(d.order, s)
        rates = [f"{name} {' '.join(f'{v:.3g}' for v in rate[used][:8])}" for name, rate in d.rates.items()]
        rows.append((f"step {s + 1}: {', '.join(rates)}", []))
        for m, label in enumerate(labels):
            best = strongest(label, classes) if soft else []
            told = "  ".join(f"{name}: {w:.2f}" for name, w in best) if soft else name_of(int(label), classes)
            set_ = lines(draw, words(d, s, m), width, font)
            rows += [(told if i == 0 else "", line) for i, line in enumerate(set_)]
    return rows
