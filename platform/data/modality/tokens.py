"""Texts to token ids: tokenising, the vocabulary, padding and truncation.

A text is lower-cased, HTML line breaks become spaces, and the rest is cut into words, numbers, English clitics as
the Penn Treebank writes them (`do n't`, `it 's`, which is also how GloVe's files were tokenised) and single marks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from raystill.platform.data.modality.contract import Encoded
from raystill.platform.data.sources.raw import Portion

PAD, UNKNOWN = "<pad>", "<unk>"
"""The first two words of every vocabulary: id 0 pads a text, id 1 stands for words outside the vocabulary."""

LONGEST = 400  # most tokens of a text where `data.length` is not set
_SHARE = 0.95  # share of training texts that are not truncated where `data.length` is not set
_LEAST_COUNT = 2  # occurrences of a word of the vocabulary in the training texts
_BREAK = re.compile(r"<br\s*/?>")
_TOKEN = re.compile(r"\w+?(?=n't\b)|n't\b|'\w+|\w+|[^\w\s]")


def tokens(text: str) -> list[str]:
    """Split a text into tokens."""
    return _TOKEN.findall(_BREAK.sub(" ", text.lower()))


def encode(splits: Mapping[str, Portion], length: int | None, most: int, known: Sequence[str] = ()) -> Encoded:
    """Encode texts as token ids int32 [N, length], with a vocabulary from the training texts.

    Each text is truncated or padded with 0 to `length` tokens.

    Args:
        splits: by name, `train` among them; their examples are strings.
        length: tokens of each text; None takes the 95th percentile of the training texts' lengths, at most 400.
        most: largest vocabulary, padding and the unknown word included; words that occur twice or more enter, the most
            frequent first, ties by alphabet.
        known: words of other corpora, the most frequent first. A word of the training texts that is among them enters
            even if it occurs once; those that the training texts lack come last.

    Raises:
        ValueError: no texts, a text without a token, or a length above that of every training text.
    """
    cut = {split: _cut(portion, split) for split, portion in splits.items()}
    lengths = np.array([len(text) for text in cut["train"]])
    if length is None:
        length = min(LONGEST, int(np.quantile(lengths, _SHARE, method="higher")))
    if length > lengths.max():
        raise ValueError(
            f"data.length: {length} tokens, but the longest training text has {lengths.max()} (half of them have at "
            f"most {int(np.median(lengths))}); more would only be padding"
        )
    words = _vocabulary(cut["train"], most, known)
    number = {word: i for i, word in enumerate(words)}
    return Encoded(
        {split: ids_of(texts, number, length) for split, texts in cut.items()},
        words,
        {split: sum(len(text) > length for text in texts) for split, texts in cut.items()},
    )


def ids_of(texts: Sequence[Sequence[str]], number: Mapping[str, int], length: int) -> np.ndarray:
    """Tokens as ids int32 [N, length]: 1 for unknown words, 0 for padding."""
    ids = np.zeros((len(texts), length), np.int32)
    for row, text in zip(ids, texts):
        numbers = [number.get(word, 1) for word in text[:length]]
        row[: len(numbers)] = numbers
    return ids


def _cut(portion: Portion, split: str) -> list[list[str]]:
    if not len(portion.images):
        raise ValueError(f"data.source: split {split} has no texts")
    cut = []
    for row, text in enumerate(portion.images):
        if not isinstance(text, str):
            raise ValueError(f"data.source: {portion.place(row)} is {type(text).__name__}, expected a text")
        cut.append(tokens(text))
        if not cut[-1]:
            raise ValueError(f"data.text_column: no word in {portion.place(row)}")
    return cut


def _vocabulary(texts: Sequence[Sequence[str]], most: int, known: Sequence[str]) -> tuple[str, ...]:
    counts, also = Counter(word for text in texts for word in text), set(known)
    ranked = sorted((-n, word) for word, n in counts.items() if n >= _LEAST_COUNT or word in also)
    words = [word for _, word in ranked] + [word for word in known if word not in counts]
    return (PAD, UNKNOWN, *words[: max(0, most - 2)])
