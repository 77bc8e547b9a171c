"""Word vectors: counts and PPMI against brute force, the factors against a dense decomposition, and GloVe's files."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from raystill.platform.data.modality.embeddings import (
    cooccurrence,
    factored,
    nearest,
    ppmi,
    read_glove,
    standardised,
    unit,
)

IDS = np.array([[2, 3, 2, 4, 5, 0], [3, 3, 6, 0, 0, 0], [5, 4, 3, 2, 6, 2]], np.int32)
V = 7


def pairs(window: int) -> Counter[tuple[int, int]]:
    """Every ordered pair of tokens at most `window` apart, one at a time."""
    found: Counter[tuple[int, int]] = Counter()
    for text in IDS.tolist():
        text = [word for word in text if word]
        for i, a in enumerate(text):
            for j, b in enumerate(text):
                if i != j and abs(i - j) <= window:
                    found[a, b] += 1
    return found


@pytest.mark.parametrize("window", [1, 2, 5, 9])
def test_counts_are_those_of_a_double_loop(window: int) -> None:
    found, expected = cooccurrence(IDS, V, window).toarray(), pairs(window)
    assert found.tolist() == [[expected[a, b] for b in range(V)] for a in range(V)]


def test_ppmi_is_its_definition() -> None:
    count, smoothing = pairs(2), 0.75
    total = sum(count.values())
    word = Counter({a: sum(n for (c, _), n in count.items() if c == a) for a in range(V)})
    smooth = {b: word[b] ** smoothing for b in word if word[b]}
    found = ppmi(cooccurrence(IDS, V, 2), smoothing).toarray()
    for a in range(V):
        for b in range(V):
            expected = 0.0
            if count[a, b]:
                joint, context = count[a, b] / total, smooth[b] / sum(smooth.values())
                expected = max(0.0, math.log(joint / (word[a] / total * context)))
            assert found[a, b] == pytest.approx(expected, abs=1e-12)


def test_factors_are_those_of_a_dense_decomposition() -> None:
    matrix = ppmi(cooccurrence(IDS, V, 2))
    found = factored(matrix, 3)
    u, s, _ = np.linalg.svd(matrix.toarray())
    expected = u[:, :3] * np.sqrt(s[:3])
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-8)
    assert (found[np.abs(found).argmax(0), np.arange(3)] > 0).all()
    np.testing.assert_array_equal(factored(matrix, 3), found)


def test_rows_have_length_one_or_none() -> None:
    found = unit(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, -2.0]]))
    assert found.tolist() == [[0, 0], [0.6, 0.8], [0, -1]]


def test_numbers_are_centred_and_of_unit_size_over_the_tokens() -> None:
    rng = np.random.Generator(np.random.Philox(3))
    table = standardised(3 + 5 * rng.standard_normal((V, 4)), IDS)
    used = table[IDS[IDS > 0]]
    assert not table[0].any()
    np.testing.assert_allclose(used.mean(0), 0, atol=2e-3)
    assert np.square(used).mean() == pytest.approx(1, abs=2e-3)


def test_the_nearest_word_is_by_cosine_and_no_special_one() -> None:
    table = np.array([[9, 0], [0, 9], [1, 0], [0, 1], [-1, 1]], np.float32)
    ids, cosines = nearest(np.array([[5, 1], [-3, 4], [0, 0]], np.float32), table)
    assert ids[:2].tolist() == [2, 4]
    assert cosines[:2] == pytest.approx([5 / 26**0.5, 7 / 50**0.5])
    assert cosines[2] == 0


WORDS = ("<pad>", "<unk>", "cat", "dog", "fish")


def glove(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "glove.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("header", ["", "3 2\n"])
def test_glove_gives_its_vectors_and_the_mean_elsewhere(tmp_path: Path, header: str) -> None:
    path = glove(tmp_path, header + "dog 1 2\nthe 7 7\ncat -3 0.5\n")
    found = read_glove(path, WORDS, 2)
    assert found[2:4].tolist() == [[-3, 0.5], [1, 2]]
    assert found[[1, 4]].tolist() == [[-1, 1.25]] * 2


@pytest.mark.parametrize(
    ("text", "width", "message"),
    [
        ("cat 1 2 3\n", 2, "data.embedding_width: 2, but the vectors of .* have 3 numbers"),
        ("cat 1 2\ndog 1 2 3\n", None, "line 2 has 3 numbers, those before have 2"),
        ("cat 1 2\ndog 1 x\n", None, "line 2 has a value that is not a number"),
        ("cat 1 nan\n", None, "line 1 has a number that is not finite"),
        ("cat\n", None, "line 1 is not a word and its numbers"),
        ("bird 1 2\n", None, "has none of the 3 words of these texts"),
        ("", None, "has none of the 3 words of these texts"),
    ],
)
def test_a_broken_glove_file_is_one_line(tmp_path: Path, text: str, width: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message) as found:
        read_glove(glove(tmp_path, text), WORDS, width)
    assert "\n" not in str(found.value)


def test_a_glove_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "glove.bin"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match=r"data.embeddings: can not read .*: not UTF-8 text"):
        read_glove(path, WORDS)
