"""Data: sources -> Arrow cache -> tensors, with splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from raystill.platform.data.sources.raw import Portion, Raw, Stored

if TYPE_CHECKING:
    from pathlib import Path

    from raystill.platform.data.store import Decoded
    from raystill.platform.registry import Plugins
    from raystill.platform.spec import DataSpec

__all__ = ["DataSet", "Portion", "Raw", "Split", "Stored", "Text", "load"]


@dataclass(frozen=True)
class Split:
    """Examples as they are kept; may be views of a memory-mapped file.

    Attributes:
        x: images, uint8 [N, C, H, W]; or texts as token ids, int32 [N, L].
        y: int64 [N].
        table: of texts, the vector of each word, float32 [V, D]; a text is then an example of shape (1, L, D).
    """

    x: np.ndarray
    y: np.ndarray
    table: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an example; (1, L, D) of a text."""
        if self.table is not None:
            return 1, self.x.shape[1], self.table.shape[1]
        c, h, w = self.x.shape[1:]
        return c, h, w

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Examples as numbers, float32 [n, C, H, W]: pixels / 255, or the vectors of a text's words."""
        if self.table is not None:
            return self.table[self.x[rows]][:, None]
        return self.x[rows].astype(np.float32) / np.float32(255)


@dataclass(frozen=True)
class Text:
    """What token ids mean.

    Attributes:
        words: the vocabulary by id; 0 is padding and 1 the unknown word.
        table: the vector of each word, float32 [V, D]; row 0 is zero.
        embeddings: where the vectors come from, in words.
        truncated: by split, texts that were longer than the length that is kept; of the source, before any cut.
        fingerprint: sha256 hex of words and vectors.
    """

    words: tuple[str, ...]
    table: np.ndarray
    embeddings: str
    truncated: Mapping[str, int]
    fingerprint: str


@dataclass(frozen=True)
class DataSet:
    """A source cut into splits.

    Attributes:
        name: what the spec called the source.
        classes: class names, in label order.
        mean, std: per channel, of train pixels / 255; the normalisation of every split.
        fingerprint: sha256 hex of the content and of what the cut depends on (size, validation share, seed, limit).
        whitening: mean [D] and matrix [D, D] that normalised images are whitened by, where the spec asks for it.
        text: the vocabulary and its vectors, where examples are texts.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    whitening: tuple[np.ndarray, np.ndarray] | None = None
    text: Text | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an example; (1, L, D) of a text."""
        return self.train.shape

    def units(self, x: np.ndarray) -> np.ndarray:
        """Pixels / 255, float32 [..., C, H, W], in the units that networks learn from."""
        mean, std = (np.asarray(v, np.float32)[:, None, None] for v in (self.mean, self.std))
        normalised: np.ndarray = (x - mean) / std
        if self.whitening is None:
            return normalised
        from raystill.platform.data.whiten import whitened

        return whitened(normalised, self.whitening)


def load(spec: DataSpec, plugins: Plugins | None = None, progress: Callable[[int, int], None] | None = None) -> DataSet:
    """From a source to a data set, through the Arrow cache.

    Args:
        spec: which data, and how they are cut.
        plugins: the caller's own parts; `{"sources": {name: function of a DataSpec that returns a Raw}}`.
        progress: called with (images decoded, images in all) where the cache lacks them.

    Raises:
        ValueError: anything that is the user's to mend; one line that names the field, the place and what is valid.
    """
    # here, so that what only needs the contract starts without pyarrow and torch
    from raystill.platform.data.cut import cut
    from raystill.platform.data.sources.registry import cache_folder, find
    from raystill.platform.data.store import decoded

    cache = cache_folder(spec)
    others = {name: _corpus(spec, name, plugins, cache) for name in _corpora(spec)}
    known = tuple(dict.fromkeys(word for other in others.values() for word in other.words[2:]))
    source = decoded(find(spec, plugins), spec.size, cache, progress, spec.length, spec.vocabulary, known)
    if others and not source.words:
        raise ValueError(f"data.corpus: makes vectors of words, and {spec.source} has images; leave it out")
    if source.words:
        if spec.whiten != "none":
            raise ValueError(f"data.whiten: {spec.whiten} is for images, and {spec.source} has texts")
        from raystill.platform.data.embeddings import text_of

        return cut(spec, source, text_of(spec, source, cache, others))
    found = cut(spec, source)
    if spec.whiten == "none":
        return found
    from raystill.platform.data.whiten import kept, zca

    whitening = kept(cache, found.fingerprint)
    if whitening is None:
        whitening = kept(cache, found.fingerprint, zca(found.train.x, found.mean, found.std))
    return replace(found, whitening=whitening)


def _corpora(spec: DataSpec) -> tuple[str, ...]:
    if spec.corpus and spec.embeddings is not None:
        raise ValueError("data.corpus: vectors are read from data.embeddings or made of texts, not both; drop one")
    twice = [name for i, name in enumerate(spec.corpus) if name in (spec.source, *spec.corpus[:i])]
    if twice:
        raise ValueError(f"data.corpus: {twice[0]} is there already; name each source of texts once")
    return spec.corpus


def _corpus(spec: DataSpec, name: str, plugins: Plugins | None, cache: Path) -> Decoded:
    from raystill.platform.data.sources.registry import find
    from raystill.platform.data.store import decoded

    try:
        found = decoded(
            find(spec.model_copy(update={"source": name}), plugins), None, cache, None, None, spec.vocabulary
        )
    except ValueError as error:
        raise ValueError(f"data.corpus: {name}: {error}") from None
    if not found.words:
        raise ValueError(f"data.corpus: {name} has images, and vectors are made of texts")
    return found
