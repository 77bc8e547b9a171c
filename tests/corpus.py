"""A tiny corpus of two classes, made by rule, for tests that must run without any data set."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

GOOD, BAD = ("good", "fine", "lovely", "bright"), ("bad", "dull", "dreadful", "dim")
LOVED, LEFT = ("and I loved it", "and we stayed"), ("so I left", "so we slept")
THINGS, PLACES = ("film", "book", "song", "play", "dish"), ("in town", "at home", "by the sea")


def sentences() -> tuple[list[str], list[int]]:
    """120 texts of 9 to 12 tokens; a word and an ending say the class."""
    rows = [
        (f"The {thing} {place} was {word} {ends[n % 2]}{'.' if n % 3 else '!'}", label)
        for label, (words, ends) in enumerate(((BAD, LEFT), (GOOD, LOVED)))
        for n, (word, thing, place) in enumerate(itertools.product(words, THINGS, PLACES))
    ]
    return [text for text, _ in rows], [label for _, label in rows]


def write(folder: Path) -> Path:
    """train (96 texts) and test (24) as Parquet in Hugging Face's convention; returns the folder."""
    texts, labels = sentences()
    folder.mkdir(parents=True, exist_ok=True)
    info = {"info": {"features": {"label": {"names": ["bad", "good"], "_type": "ClassLabel"}}}}
    for split, rows in {"train": [i for i in range(120) if i % 5], "test": range(0, 120, 5)}.items():
        table = pa.table({"text": [texts[i] for i in rows], "label": [labels[i] for i in rows]})
        pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), folder / f"{split}.parquet")
    return folder
