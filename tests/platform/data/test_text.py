"""Texts: tokens, vocabulary, lengths, the cache, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raystill.platform.data import Raw, load
from raystill.platform.data.modality.tokens import PAD, UNKNOWN, encode, tokens
from raystill.platform.data.resident import resident
from raystill.platform.data.sources.raw import portion
from raystill.platform.spec import DataSpec

TEXTS = ["a b a c", "a b", "b a c a d a", "c"]


def encoded(length: int | None, most: int = 100) -> object:
    return encode({"train": portion((TEXTS, [0, 1, 0, 1]))}, length, most)


def corpus(folder: Path) -> Path:
    """Forty texts of classes x and y; the class is in the first word."""
    folder.mkdir()
    rows = [(f"{'xy'[i % 2]}{i % 3} stands {'here' if i % 4 else 'there , now'}", i % 2) for i in range(40)]
    label = {"names": ["x", "y"], "_type": "ClassLabel"}
    meta = {"huggingface": json.dumps({"info": {"features": {"label": label}}})}
    table = pa.table({"text": [t for t, _ in rows], "label": [y for _, y in rows]}).replace_schema_metadata(meta)
    pq.write_table(table, folder / "train.parquet")
    return folder


def spec(folder: Path, **changes: object) -> DataSpec:
    return DataSpec.model_validate({"source": f"parquet:{folder}", "embedding_width": 4, **changes})


def test_tokens_are_words_numbers_marks_and_clitics() -> None:
    assert tokens("Don't stop!<br />It's 1984.") == ["do", "n't", "stop", "!", "it", "'s", "1984", "."]
    assert tokens("crème brûlée (great)") == ["crème", "brûlée", "(", "great", ")"]


def test_ids_are_by_frequency_then_by_the_alphabet() -> None:
    found = encoded(4)
    assert found.vocabulary == (PAD, UNKNOWN, "a", "b", "c")  # a 6, b 3, c 3; d once is not known
    expected = [[2, 3, 2, 4], [2, 3, 0, 0], [3, 2, 4, 2], [4, 0, 0, 0]]
    assert found.x["train"].tolist() == expected
    assert found.truncated == {"train": 1}


def test_the_vocabulary_has_a_most() -> None:
    assert encoded(4, 3).vocabulary == (PAD, UNKNOWN, "a")


def test_the_length_leaves_most_texts_whole() -> None:
    texts = ["w " * n for n in range(1, 101)]
    assert encode({"train": portion((texts, [0] * 100))}, None, 10).x["train"].shape == (100, 96)


def test_a_length_that_no_text_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^data.length: 7 tokens, but the longest training text has 6 \(half"):
        encoded(7)


def test_a_text_without_a_word_is_refused_by_its_place() -> None:
    with pytest.raises(ValueError, match="no word in row 1"):
        encode({"train": portion((["a", " "], [0, 1]))}, None, 10)


def test_parquet_with_text_and_label_becomes_sequences(tmp_path: Path) -> None:
    data = load(spec(corpus(tmp_path / "c"), length=4))
    assert data.classes == ("x", "y")
    assert data.shape == (1, 4, 4)
    assert data.payload is not None
    assert data.payload.truncated == {"train": 10}
    assert data.payload.table.shape == (len(data.payload.words), 4)
    row = data.train.x[0]
    np.testing.assert_array_equal(data.train.values(np.array([0]))[0, 0], data.payload.table[row])
    batch, y = resident(data.train, data).batch(np.arange(6).reshape(2, 3))
    assert batch.shape == (2, 3, 1, 4, 4)
    assert torch.equal(batch[0, 0, 0], torch.from_numpy(data.payload.table[row]))
    assert torch.equal(y, torch.from_numpy(data.train.y[:6].reshape(2, 3)))
    assert not batch[..., 3, :].any() or data.train.x[:6, 3].any()


def test_the_cache_gives_the_same_and_a_changed_file_is_seen(tmp_path: Path, own_cache: Path) -> None:
    folder = corpus(tmp_path / "c")
    first, again = load(spec(folder)), load(spec(folder))
    assert first.fingerprint == again.fingerprint
    assert np.array_equal(first.train.table, again.train.table)
    for damaged in own_cache.rglob("*.safetensors"):
        damaged.write_bytes(damaged.read_bytes()[:-3] + b"xyz")
    assert load(spec(folder)).fingerprint == first.fingerprint  # made again, not loaded
    assert load(spec(folder, length=3)).fingerprint != first.fingerprint
    assert load(spec(folder, embedding_width=3)).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 50}, "data.length: 50 tokens, but the longest"),
        ({"size": 8}, "data.size: 8 is for images, and this source gives texts"),
        ({"text_column": "label"}, "data.text_column: 'label' in .* is int64, expected string"),
        ({"text_column": "sentence"}, "data.image_column: no column 'image'"),
        ({"embedding_width": 400}, "data.embedding_width: 400 numbers, but"),
        ({"embeddings": "/nowhere/glove.txt"}, "data.embeddings: can not read /nowhere/glove.txt: No such file"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as found:
        load(spec(corpus(tmp_path / "c"), **changes))
    assert "\n" not in str(found.value)


def test_a_length_for_images_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data.length: 5 is for texts, and this source gives images"):
        load(DataSpec(source="digits", length=5))


def test_a_plug_in_may_give_texts() -> None:
    plugins = {"sources": {"own": lambda _: Raw({"train": (["good day", "bad day"] * 20, [0, 1] * 20)})}}
    data = load(DataSpec(source="own", embedding_width=2), plugins)
    assert data.shape == (1, 2, 2)


def test_a_glove_file_gives_the_vectors_and_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    folder, path = corpus(tmp_path / "c"), tmp_path / "glove.txt"
    path.write_text("x0 1 0\ny0 0 1\nstands 1 1\nhere 2 -1\n")
    settings = {"embeddings": path, "embedding_width": None}
    data = load(spec(folder, **settings))
    assert data.shape[2] == 2
    assert data.payload is not None
    assert data.payload.embeddings == "GloVe file glove.txt"
    assert load(spec(folder, **settings)).fingerprint == data.fingerprint
    x, y, stands = (data.payload.table[data.payload.words.index(word)] for word in ("x0", "y0", "stands"))
    np.testing.assert_allclose((x - y) / (stands - y)[0], [1, -1], atol=5e-3)  # centred and scaled, no more
    path.write_text("x0 1 0\ny0 0 1\nstands 1 1\nhere 2 -2\n")
    assert load(spec(folder, **settings)).fingerprint != data.fingerprint
    with pytest.raises(ValueError, match=r"data.embedding_width: 4, but the vectors of .*glove.txt have 2 numbers"):
        load(spec(folder, embeddings=path))


def other(folder: Path) -> Path:
    """A corpus that knows words of `corpus`, and two of its own."""
    folder.mkdir()
    texts = [f"x0 stands beside {'x7' if i % 3 else 'y1'} , there" for i in range(12)]
    pq.write_table(pa.table({"text": texts, "label": [0, 1] * 6}), folder / "train.parquet")
    return folder


def test_known_words_come_after_those_of_the_texts() -> None:
    found = encode({"train": portion((TEXTS, [0, 1, 0, 1]))}, 4, 100, ("z", "d", "a"))
    assert found.vocabulary == (PAD, UNKNOWN, "a", "b", "c", "d", "z")  # d occurs once, but is known
    assert encode({"train": portion((TEXTS, [0, 1, 0, 1]))}, 4, 6, ("z", "d")).vocabulary == found.vocabulary[:6]


def test_a_corpus_adds_words_and_what_stands_together(tmp_path: Path) -> None:
    own = spec(corpus(tmp_path / "own"), cache=tmp_path / "cache")
    added = own.model_copy(update={"corpus": (f"parquet:{other(tmp_path / 'other')}",)})
    plain, found = load(own), load(added)
    assert found.payload is not None
    assert plain.payload is not None
    assert found.payload.words[: len(plain.payload.words)] == plain.payload.words
    assert set(found.payload.words) - set(plain.payload.words) == {"beside", "x7"}
    assert "and those of parquet:" in found.payload.embeddings
    assert found.fingerprint != plain.fingerprint
    assert len(found.train) == len(plain.train)
    assert load(added).fingerprint == found.fingerprint
    counted = other(tmp_path / "copy")  # the same content under another name gives the same vectors
    np.testing.assert_array_equal(
        load(own.model_copy(update={"corpus": (f"parquet:{counted}",)})).payload.table, found.payload.table
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": ["digits"]}, "data.corpus: digits has images"),
        ({"corpus": ["nowhere"]}, "data.corpus: nowhere: data.source: .*nowhere"),
        ({"corpus": ["SELF"]}, "data.corpus: .* is named twice"),
        (
            {"corpus": ["digits"], "embeddings": "glove.txt"},
            "data.corpus: word vectors come from data.embeddings or from",
        ),
        ({"corpus": ["OTHER"], "source": "digits", "embedding_width": None}, "data.corpus: word vectors need texts"),
    ],
)
def test_a_wrong_corpus_is_one_line(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    own = corpus(tmp_path / "own")
    names = {"SELF": f"parquet:{own}", "OTHER": f"parquet:{other(tmp_path / 'other')}"}
    changes = {**changes, "corpus": [names.get(name, name) for name in changes["corpus"]]}
    with pytest.raises(ValueError, match=message) as found:
        load(spec(own, cache=tmp_path / "cache", **changes))
    assert "\n" not in str(found.value)
