"""Texts to token ids: tokenising, the vocabulary, padding and truncation.

A text is lower-cased, HTML line breaks become spaces, and what is left is cut into words, numbers, English clitics as
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
"""The first two words of every vocabulary: id 0 fills a text up, id 1 stands for words that are not in it."""

LONGEST = 400  # tokens of a text where `data.length` does not say
_SHARE = 0.95  # of training texts that are whole where `data.length` does not say
_LEAST_COUNT = 2  # times a word is seen: one that is seen once would be learned from nothing
_BREAK = re.compile(r"<br\s*/?>")
_TOKEN = re.compile(r"\w+?(?=n't\b)|n't\b|'\w+|\w+|[^\w\s]")


def tokens(text: str) -> list[str]:
    """The tokens of one text."""
    return _TOKEN.findall(_BREAK.sub(" ", text.lower()))


def encode(splits: Mapping[str, Portion], length: int | None, most: int, known: Sequence[str] = ()) -> Encoded:
    """Token ids int32 [N, length] of every split, in a vocabulary of the training texts' words.

    A text is its first `length` tokens, filled up with 0.

    Args:
        splits: `train` and what else there is; portions whose examples are strings.
        length: tokens kept of each text; none takes the least that leaves 95 % of the training texts whole, at most
            400.
        most: words of the vocabulary, the two special ones among them; the most frequent win, the alphabet on ties.
        known: words from elsewhere, the most frequent first: a training text's word is kept if it is one of them, even
            if it occurs once, and those that no training text has come after all that some has.

    Raises:
        ValueError: no texts, one without a token, or a length that no training text has; the message says where.
    """
    cut = {split: _cut(portion, split) for split, portion in splits.items()}
    lengths = np.array([len(text) for text in cut["train"]])
    if length is None:
        length = min(LONGEST, int(np.quantile(lengths, _SHARE, method="higher")))
    if length > lengths.max():
        raise ValueError(
            f"data.length: {length} tokens, but the longest training text has {lengths.max()} (half of them have at "
            f"most {int(np.median(lengths))}); more would be nothing but padding"
        )
    words = _vocabulary(cut["train"], most, known)
    number = {word: i for i, word in enumerate(words)}
    return Encoded(
        {split: ids_of(texts, number, length) for split, texts in cut.items()},
        words,
        {split: sum(len(text) > length for text in texts) for split, texts in cut.items()},
    )


def ids_of(texts: Sequence[Sequence[str]], number: Mapping[str, int], length: int) -> np.ndarray:
    """Tokens as ids int32 [N, length]; unknown words are 1, and what a text lacks is 0."""
    ids = np.zeros((len(texts), length), np.int32)
    for row, text in zip(ids, texts):
        found = [number.get(word, 1) for word in text[:length]]
        row[: len(found)] = found
    return ids


def _cut(portion: Portion, split: str) -> list[list[str]]:
    if not len(portion.images):
        raise ValueError(f"data.source: split {split} has no texts")
    found = []
    for row, text in enumerate(portion.images):
        if not isinstance(text, str):
            raise ValueError(f"data.source: {portion.place(row)} is {type(text).__name__}, expected a text")
        found.append(tokens(text))
        if not found[-1]:
            raise ValueError(f"data.text_column: no word in {portion.place(row)}")
    return found


def _vocabulary(texts: Sequence[Sequence[str]], most: int, known: Sequence[str]) -> tuple[str, ...]:
    counts, also = Counter(word for text in texts for word in text), set(known)
    ranked = sorted((-n, word) for word, n in counts.items() if n >= _LEAST_COUNT or word in also)
    words = [word for _, word in ranked] + [word for word in known if word not in counts]
    return (PAD, UNKNOWN, *words[: max(0, most - 2)])
