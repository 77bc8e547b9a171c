"""Texts: token ids int32 [N, L] with a vector for each word; an example has the shape (1, L, D)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from raystill.platform.data.modality.contract import Companion, Encoded, Modality, Rendering, Request, Section

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont
    from torch import Tensor

    from raystill.platform.data.sources.raw import Portion
    from raystill.platform.data.store import Decoded
    from raystill.platform.spec import DataSpec

SHIFT = 0.125
"""Largest translation of the augmentation, as a share of the tokens."""

WORDS = "words.parquet"
MOST_BYTES = 16 * 2**30  # of the vectors of an artefact, in memory
LINE, WIDTH, MOST_LINES = 20, 340, 30  # of a picture: height and width of a line in pixels, and most lines
PAPER, INK = (255, 255, 255), (27, 31, 36)


@dataclass(frozen=True)
class Text:
    """The vocabulary of texts and its vectors.

    Attributes:
        words: the vocabulary by id; 0 is padding and 1 the unknown word.
        table: the vector of each word, float32 [V, D]; row 0 is zero.
        embeddings: origin of the vectors, a phrase.
        truncated: by split of the source, number of truncated texts.
        fingerprint: sha256 hex of words and vectors.
    """

    words: tuple[str, ...]
    table: np.ndarray
    embeddings: str
    truncated: Mapping[str, int]
    fingerprint: str


class Word(NamedTuple):
    """The word nearest to a token, the cosine between their vectors, and its opacity, 0.25 to 1."""

    word: str
    cosine: float
    strength: float


def decode(portions: Mapping[str, Portion], request: Request) -> Encoded:
    """Encode the texts of every split.

    Raises:
        ValueError: as `tokens.encode`, or a setting of images is given.
    """
    from raystill.platform.data.modality.tokens import encode

    spec = request.spec
    if spec.size is not None:
        raise ValueError(f"data.size: {spec.size} is for images, and this source gives texts; see data.length")
    return encode(portions, spec.length, spec.vocabulary, request.known)


def numbers(x: Any, table: Any) -> Any:
    """The vectors of token ids [n, L], float32 [n, 1, L, D]."""
    return table[x][:, None]


def shift(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Shift each text (N, 1, L, D) by up to an eighth of its tokens; the first or the last is repeated."""
    import torch

    from raystill.platform.data.shift import shifted

    most = max(1, round(SHIFT * x.shape[2]))
    # two draws for each example, as for images; the second is not used
    down = torch.from_numpy(most - rng.integers(0, 2 * most + 1, (len(x), 2))[:, 0]).to(x.device)
    return shifted(x, down, 0)


def make(spec: DataSpec, source: Decoded, cache: Path, corpora: Mapping[str, Decoded]) -> Text:
    """The vectors of a source's words.

    Args:
        spec, source, cache, corpora: as of `embeddings.text_of`.
    """
    from raystill.platform.data.modality.embeddings import text_of

    return text_of(spec, source, cache, corpora)


def describe(text: Text, x: np.ndarray) -> dict[str, Any]:
    """The manifest's section of distilled texts float32 [S, M, 1, L, D]; `nearest`, `cosines`: lists [S][M][L]."""
    from raystill.platform.data.modality.embeddings import nearest

    s, m, _, length, width = x.shape
    ids, cosines = nearest(x.reshape(-1, width), text.table)
    return {
        "length": length,
        "width": width,
        "vocabulary": len(text.words),
        "embeddings": text.embeddings,
        "fingerprint": text.fingerprint,
        "truncated": dict(text.truncated),
        "nearest": np.array(text.words, object)[ids].reshape(s, m, length).tolist(),
        "cosines": np.round(cosines.astype(np.float64), 3).reshape(s, m, length).tolist(),
    }


def problem(section: Section, x: np.ndarray, text: Text | None) -> str:
    """Why the words of distilled texts do not fit their vectors, or ""."""
    for key in ("nearest", "cosines"):
        if key in section and np.shape(section[key]) != (*x.shape[:2], x.shape[3]):
            return f"manifest.text.{key} needs one entry for each token"
    if text is not None and not (text.table.shape == (len(text.words), x.shape[4]) and text.table.dtype == np.float32):
        return "the words' vectors do not fit the texts"
    return ""


def columns(section: Section) -> dict[str, list[Any]]:
    """The nearest words of each distilled text."""
    return {"nearest_words": [words for step in section["nearest"] for words in step]}


def write(file: Path, text: Text) -> None:
    """Write one row for each word, by id."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(np.ascontiguousarray(text.table).reshape(-1))
    vectors = pa.FixedSizeListArray.from_arrays(flat, text.table.shape[1])
    pq.write_table(pa.table({"word": pa.array(text.words), "vector": vectors}), file, compression="zstd")


def read(file: Path, section: Section) -> Text:
    """Read a vocabulary; ValueError where its size is not that of the manifest's section."""
    import pyarrow.parquet as pq

    count, width = int(section["vocabulary"]), int(section["width"])
    with pq.ParquetFile(file) as parquet:
        if parquet.metadata.num_rows != count or 4 * count * width > MOST_BYTES:
            raise ValueError(f"{file.name} does not hold {count} words")
        table = parquet.read(["word", "vector"]).combine_chunks()
    vectors = table["vector"].chunk(0).flatten().to_numpy().reshape(count, width).copy()
    words = tuple(table["word"].to_pylist())
    return Text(words, vectors, str(section["embeddings"]), dict(section["truncated"]), str(section["fingerprint"]))


def embed(text: Text, texts: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
    """Tokenise, truncate or pad, and embed real texts: float32 [N, 1, L, D]."""
    from raystill.platform.data.modality.tokens import ids_of, tokens

    number = {word: i for i, word in enumerate(text.words)}
    return np.asarray(numbers(ids_of([tokens(each) for each in texts], number, shape[1]), text.table))


def words(section: Section, step: int, position: int) -> list[Word]:
    """The nearest words of one distilled text, in the order of its tokens."""
    pairs = zip(section["nearest"][step][position], section["cosines"][step][position])
    return [Word(word, cosine, min(1.0, max(0.25, 1.6 * float(cosine)))) for word, cosine in pairs]


def render(x: np.ndarray, manifest: Mapping[str, Any]) -> Rendering:
    """Render each token as its nearest word, the darker the larger their cosine."""
    from markupsafe import Markup

    section = manifest["text"]
    cosines = np.asarray(section["cosines"], float)
    explanation = (
        f"Each of the {section['length']} tokens as the word whose vector is nearest to it, the darker the nearer; "
        f"their cosine is {cosines.mean():.2f} on average. Vectors: {section['embeddings']}."
    )

    def html(step: int, position: int, alt: str) -> Markup:
        each = Markup("").join(
            Markup('<i style="opacity: {:.2f}" title="cosine {:.2f}">{}</i> ').format(w.strength, w.cosine, w.word)
            for w in words(section, step, position)
        )
        return Markup('<p class="sentence" aria-label="{}">{}</p>').format(alt, each)

    return Rendering(
        explanation, html, lambda step, position, side: picture(words(section, step, position)), (340, 100)
    )


def picture(text: Sequence[Word]) -> Image.Image:
    """Draw words in lines of 340 pixels, at most 30 lines."""
    from PIL import Image, ImageDraw

    lines = _lines(text)[:MOST_LINES]
    canvas = Image.new("RGB", (WIDTH, LINE * len(lines)), PAPER)
    draw = ImageDraw.Draw(canvas)
    for row, line in enumerate(lines):
        for left, item in line:
            grey = tuple(round(p + (k - p) * item.strength) for p, k in zip(PAPER, INK))
            draw.text((left, LINE * row), item.word, grey, font(13))
    return canvas


def _lines(text: Sequence[Word]) -> list[list[tuple[int, Word]]]:
    """Words by line, each with its left edge in pixels."""
    draw = _ruler()
    lines: list[list[tuple[int, Word]]] = [[]]
    left = 0
    for item in text:
        length = int(draw.textlength(item.word + " ", font=font(13)))
        if left and left + length > WIDTH:
            lines.append([])
            left = 0
        lines[-1].append((left, item))
        left += length
    return lines


@cache
def _ruler() -> ImageDraw.ImageDraw:
    from PIL import Image, ImageDraw

    return ImageDraw.Draw(Image.new("RGB", (1, 1)))


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Matplotlib's bundled font in a size in pixels: the same on every machine."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)


TEXT = Modality(
    "text", "text", decode, numbers, lambda shape: f"{shape[1]} tokens of {shape[2]} numbers", render,
    features=lambda x: x.mean(-2), shift=shift,
    companion=Companion(
        make, describe, problem, columns, WORDS, write, read, embed, lists=("nearest", "cosines")
    ),
)  # fmt: skip
