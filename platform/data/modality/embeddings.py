"""Word vectors, read from a GloVe text file or computed from the training texts; never downloaded.

They are computed as the positive pointwise mutual information of words that stand near each other, factored by a
truncated singular value decomposition (Levy and Goldberg 2014, "Neural word embedding as implicit matrix
factorization"), and each word's vector is scaled to length one (Levy, Goldberg and Dagan 2015).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raystill.platform.data.content import content_of
from raystill.platform.data.modality.text import Text
from raystill.platform.data.sources.raw import File, Raw, Stored, local_file
from raystill.platform.files import arrays
from raystill.platform.files.digests import digest
from raystill.platform.seeds import Address, numpy_rng

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from raystill.platform.data.store import Decoded
    from raystill.platform.spec import DataSpec

WIDTH = 100  # numbers of a word's vector where `data.embedding_width` is not set
WINDOW = 5  # words to each side that count as near
SMOOTHING = 0.75  # exponent on the counts of contexts, which lowers the weight of rare ones
_GRID = 2.0**-10  # vectors are rounded to multiples of this, far above differences between machines
_FORMAT = 2  # increase it when the vectors of the same texts change
_PIECE = 4096


def text_of(spec: DataSpec, source: Decoded, cache: Path, others: Mapping[str, Decoded] | None = None) -> Text:
    """Read the vectors of a source's words from the cache; compute and write them first where it lacks them.

    They are `standardised` over the training texts.

    Args:
        spec: `embeddings` and `embedding_width`.
        source: training texts and the vocabulary.
        cache: the cache folder.
        others: further sources of texts for the co-occurrence counts, by name.

    Raises:
        ValueError: a malformed GloVe file, or one of another width; too many numbers for so few words.
    """
    ids, words = source.splits["train"].x, source.vocabulary
    if spec.embeddings is not None:
        file = _file(spec.embeddings)
        settings: list[Any] = [content_of(Stored(lambda: Raw({}), [file]), cache), spec.embedding_width]
        origin = f"GloVe file {Path(spec.embeddings).name}"
    else:
        width = spec.embedding_width or WIDTH
        if width > len(words) - 3:
            raise ValueError(
                f"data.embedding_width: {width} numbers, but {len(words) - 2} words fill at most {len(words) - 3}; "
                "set it lower, or give a GloVe file as data.embeddings"
            )
        settings = [width, WINDOW, SMOOTHING, *(other.content for other in (others or {}).values())]
        origin = f"made of the training texts{_named(others)} (PPMI, SVD of {width}, window {WINDOW})"
    path = cache / "embeddings" / f"{digest([_FORMAT, source.content, settings])}.safetensors"
    table = _cached(path, len(words))
    if table is None:
        if spec.embeddings is not None:
            table = read_glove(spec.embeddings, words, spec.embedding_width)
        else:
            counts = cooccurrence(ids, len(words))
            for other in (others or {}).values():
                counts = counts + cooccurrence(_renumbered(other, words), len(words))
            table = unit(factored(ppmi(counts), width))
        table = standardised(table, ids)
        with suppress(ValueError):  # an unwritable cache only costs computing them again
            arrays.write(path, {"vectors": table}, {})
    return Text(words, table, origin, source.truncated, digest([words, _sum(table).tolist()]))


def cooccurrence(ids: np.ndarray, count: int, window: int = WINDOW) -> csr_matrix:
    """How often word a stands within `window` words of word b, either side, in one text; float64 [V, V], symmetric.

    Args:
        ids: texts [N, L]; 0 is padding and counts for nothing.
        count: V.
    """
    from scipy.sparse import coo_matrix, csr_matrix

    total = csr_matrix((count, count))
    for start in range(0, len(ids), _PIECE):
        piece = ids[start : start + _PIECE]
        for gap in range(1, min(window, ids.shape[1] - 1) + 1):
            a, b = piece[:, :-gap], piece[:, gap:]
            both = (a > 0) & (b > 0)
            pairs = (np.ones(int(both.sum())), (a[both], b[both]))
            total = total + coo_matrix(pairs, (count, count)).tocsr()
    return (total + total.T).tocsr()


def ppmi(counts: csr_matrix, smoothing: float = SMOOTHING) -> csr_matrix:
    """max(0, log(P(a, b) / (P(a) P_s(b)))), with P_s(b) in proportion to b's count to the power of `smoothing`.

    Levy, Goldberg and Dagan 2015, equations 3 and 4. Pairs that never occur stay zero.
    """
    from scipy.sparse import csr_matrix

    pairs = counts.tocoo()
    total = np.asarray(counts.sum(1)).ravel()
    context = np.asarray(counts.sum(0)).ravel() ** smoothing
    context = context / context.sum()
    value = np.log(pairs.data / (total[pairs.row] * context[pairs.col]))
    positive = value > 0
    return csr_matrix((value[positive], (pairs.row[positive], pairs.col[positive])), counts.shape)


def factored(matrix: csr_matrix, width: int) -> np.ndarray:
    """U sqrt(S) of the `width` largest singular values, float64 [V, width]; a column's largest entry is positive.

    Raises:
        ValueError: the matrix is zero.
    """
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    if not matrix.nnz:
        raise ValueError("data.embeddings: no two words of these texts occur near each other; give a GloVe file")
    # one thread and not ARPACK, which draws unseeded directions at low rank: the same bits each time
    seed = int(numpy_rng(Address(0, stream="embeddings")).integers(2**31))
    with threadpool_limits(1):
        u, s, _ = randomized_svd(matrix, width, n_oversamples=20, n_iter=8, random_state=seed)
    signs = np.sign(u[np.abs(u).argmax(0), np.arange(width)])
    return u * signs * np.sqrt(s)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors [V, D] to length one: frequent words, whose PPMI is small, then weigh as much as rare ones."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def standardised(vectors: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Centre and scale vectors [V, D] to mean 0 and mean square 1 over the tokens of ids [N, L]; row 0 becomes zero."""
    share = np.bincount(ids.reshape(-1), minlength=len(vectors)).astype(np.float64)
    share[0] = 0
    share /= share.sum()
    centred = vectors - share @ vectors
    scale = np.sqrt((share @ np.square(centred)).mean())
    centred = np.rint(centred / max(scale, 1e-12) / _GRID) * _GRID
    centred[0] = 0
    return np.ascontiguousarray(centred, np.float32)


def read_glove(path: Path, words: tuple[str, ...], width: int | None = None) -> np.ndarray:
    """Read the vectors of a vocabulary, float64 [V, D], from a file of lines `word number number ...`.

    The unknown word, and words that the file lacks, get the mean of the others.

    Raises:
        ValueError: no such file, a malformed line, a number that is not finite, another width than the spec's, or none
            of the words.
    """
    number = {word: i for i, word in enumerate(words)}
    rows: dict[int, np.ndarray] = {}
    before: int | None = None
    try:
        with Path(path).expanduser().open(encoding="utf-8") as stream:
            for at, line in enumerate(stream, 1):
                word, _, rest = line.rstrip().partition(" ")
                count = rest.count(" ") + 1 if rest else 0
                if at == 1 and count == 1 and word.isdigit():
                    continue  # word2vec's header: number of words and width
                before = _width(path, at, count, before, width)
                if word in number:
                    rows[number[word]] = _numbers(path, at, rest.split(" "))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ValueError(f"data.embeddings: can not read {path}: {reason}") from error
    if before is None or not rows:
        raise ValueError(f"data.embeddings: {path} has none of the {len(words) - 2} words of these texts")
    vectors = np.tile(np.mean(list(rows.values()), axis=0), (len(words), 1))
    vectors[list(rows)] = list(rows.values())
    return vectors


def nearest(vectors: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The word nearest to each vector by cosine; padding and the unknown word are left out.

    Args:
        vectors: [N, D].
        among: the table [V, D]; rows from 2 on are words.

    Returns:
        ids int64 [N] and cosines float32 [N].
    """
    words = unit(among[2:])
    ids, cosines = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _PIECE // 8):
        rows = slice(start, start + _PIECE // 8)
        cosine = vectors[rows] @ words.T / np.maximum(np.linalg.norm(vectors[rows], axis=1, keepdims=True), 1e-12)
        best = cosine.argmax(1)
        ids[rows], cosines[rows] = best + 2, np.take_along_axis(cosine, best[:, None], 1)[:, 0]
    return ids, cosines


def _named(others: Mapping[str, Decoded] | None) -> str:
    return f" and those of {', '.join(others)}" if others else ""


def _renumbered(other: Decoded, words: tuple[str, ...]) -> np.ndarray:
    """A corpus' training texts in the ids of another vocabulary, int32 [N, L]; 1 stands for words that it lacks."""
    number = {word: i for i, word in enumerate(words)}
    renamed = np.array([0, 1, *(number.get(word, 1) for word in other.vocabulary[2:])], np.int32)
    return renamed[other.splits["train"].x]


def _width(path: Path, at: int, count: int, before: int | None, wanted: int | None) -> int:
    if before is not None and count != before:
        raise ValueError(f"data.embeddings: {path} line {at} has {count} numbers, those before have {before}")
    if count < 2:
        raise ValueError(f"data.embeddings: {path} line {at} is not a word and its numbers, as in GloVe's text files")
    if wanted is not None and count != wanted:
        raise ValueError(f"data.embedding_width: {wanted}, but the vectors of {path} have {count} numbers")
    return count


def _numbers(path: Path, at: int, values: list[str]) -> np.ndarray:
    try:
        row = np.array(values, np.float64)
    except ValueError:
        raise ValueError(f"data.embeddings: {path} line {at} has a value that is not a number") from None
    if not np.isfinite(row).all():
        raise ValueError(f"data.embeddings: {path} line {at} has a number that is not finite")
    return row


def _file(path: Path) -> File:
    path = Path(path).expanduser()
    try:
        return local_file(path, path.parent)
    except OSError as error:
        raise ValueError(f"data.embeddings: can not read {path}: {error.strerror}") from error


def _cached(path: Path, count: int) -> np.ndarray | None:
    try:
        vectors = arrays.read(path)[0]["vectors"]
    except (ValueError, KeyError):
        return None
    return vectors if len(vectors) == count else None


def _sum(vectors: np.ndarray) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(np.ascontiguousarray(vectors).tobytes()).digest(), np.uint8)
