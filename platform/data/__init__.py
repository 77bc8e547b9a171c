"""Data: sources -> Arrow cache -> tensors, with splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from raystill.platform.data.modality import IMAGE, Modality, Payload, Request
from raystill.platform.data.sources.raw import Portion, Raw, Stored

if TYPE_CHECKING:
    from pathlib import Path

    from raystill.platform.data.store import Decoded
    from raystill.platform.registry import Plugins
    from raystill.platform.spec import DataSpec

__all__ = ["DataSet", "Modality", "Portion", "Raw", "Split", "Stored", "load"]


@dataclass(frozen=True)
class Split:
    """Examples as they are stored; may be views of a memory-mapped file.

    Attributes:
        x: [N, ...], such as images uint8 [N, C, H, W] or texts as token ids int32 [N, L].
        y: int64 [N].
        modality: kind of the examples.
        table: the vector of each stored id, float32 [V, D]; None where examples are not ids.
    """

    x: np.ndarray
    y: np.ndarray
    modality: Modality = IMAGE
    table: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an example."""
        c, h, w = self.modality.numbers(self.x[:0], self.table).shape[1:]
        return c, h, w

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Examples as numbers, float32 [n, C, H, W], before they are normalised; rows int64 [n]."""
        numbers: np.ndarray = self.modality.numbers(self.x[rows], self.table)
        return numbers


@dataclass(frozen=True)
class DataSet:
    """A source cut into splits.

    Attributes:
        name: of the source, as in the spec.
        classes: class names, in label order.
        mean, std: per channel, of the training examples; every split is normalised by them.
        fingerprint: sha256 hex of the content and of the settings of the cut (size, validation share, seed, limit).
        whitening: mean [D] and matrix [D, D] that whiten normalised images; None where the spec does not whiten.
        modality: kind of the examples.
        payload: data that examples need beside their arrays, such as the vocabulary of texts.
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
    modality: Modality = IMAGE
    payload: Payload | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an example."""
        return self.train.shape

    def units(self, x: np.ndarray) -> np.ndarray:
        """Normalise, and whiten where the spec asks for it, examples float32 [..., C, H, W]."""
        mean, std = (np.asarray(v, np.float32)[:, None, None] for v in (self.mean, self.std))
        normalised: np.ndarray = (x - mean) / std
        if self.whitening is None:
            return normalised
        from raystill.platform.data.whiten import whitened

        return whitened(normalised, self.whitening)


def load(spec: DataSpec, plugins: Plugins | None = None, progress: Callable[[int, int], None] | None = None) -> DataSet:
    """Load a data set: decode its source or read it from the Arrow cache, then cut it into splits.

    Args:
        spec: the source, its decoding and the cut.
        plugins: the caller's own sources, `{"sources": {name: DataSpec -> Raw}}`, and modalities.
        progress: called with (images decoded, all images) while a source is decoded.

    Raises:
        ValueError: the spec or the data are wrong; one line that names the field, the place and what is valid.
    """
    # imported here: users of the dataclasses alone need neither pyarrow nor torch
    from raystill.platform.data.cut import cut
    from raystill.platform.data.sources.registry import cache_folder, find
    from raystill.platform.data.store import decoded

    cache = cache_folder(spec)
    corpora = {name: _corpus(spec, name, plugins, cache) for name in _corpora(spec)}
    known = tuple(dict.fromkeys(word for corpus in corpora.values() for word in corpus.vocabulary[2:]))
    source = decoded(find(spec, plugins), Request(spec, progress, known), cache, plugins)
    modality = source.modality
    if corpora and modality.companion is None:
        raise ValueError(f"data.corpus: word vectors need texts, and {spec.source} has {modality.plural}; leave it out")
    payload = modality.companion.make(spec, source, cache, corpora) if modality.companion else None
    data = cut(spec, source, payload)
    if spec.whiten == "none":
        return data
    from raystill.platform.data.whiten import cached, zca

    if modality is not IMAGE:
        raise ValueError(f"data.whiten: {spec.whiten} is for images, and {spec.source} has {modality.plural}")
    whitening = cached(cache, data.fingerprint)
    if whitening is None:
        whitening = cached(cache, data.fingerprint, zca(data.train.x, data.mean, data.std))
    return replace(data, whitening=whitening)


def _corpora(spec: DataSpec) -> tuple[str, ...]:
    if spec.corpus and spec.embeddings is not None:
        raise ValueError("data.corpus: word vectors come from data.embeddings or from texts, not both; drop one")
    twice = [name for i, name in enumerate(spec.corpus) if name in (spec.source, *spec.corpus[:i])]
    if twice:
        raise ValueError(f"data.corpus: {twice[0]} is named twice; name each source of texts once")
    return spec.corpus


def _corpus(spec: DataSpec, name: str, plugins: Plugins | None, cache: Path) -> Decoded:
    from raystill.platform.data.sources.registry import find
    from raystill.platform.data.store import decoded

    bare = spec.model_copy(update={"source": name, "size": None, "length": None})
    try:
        corpus = decoded(find(bare, plugins), Request(bare), cache, plugins)
    except ValueError as error:
        raise ValueError(f"data.corpus: {name}: {error}") from None
    if not corpus.vocabulary:
        raise ValueError(f"data.corpus: {name} has {corpus.modality.plural}, and word vectors need texts")
    return corpus
