"""The ledger of a search as Parquet: one row for each architecture that was proposed.

It does not depend on which process scored what, or when: an undisturbed search and one that was killed and resumed
write the same rows. A row has what each ranker gave; its score is what the searcher was told.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raystill.platform.architectures import Arch
from raystill.platform.files import tables
from raystill.search.ranking import statistics

LedgerRow = Mapping[str, Any]


def schema(rankers: Sequence[str]) -> pa.Schema:
    """Columns of a ledger whose architectures were scored by some rankers."""
    return pa.schema([
        ("generation", pa.int64()), ("index", pa.int64()), ("architecture", pa.string()), ("key", pa.string()),
        ("score", pa.float64()), *((name, pa.float64()) for name in rankers),
    ])  # fmt: skip


def standings(rows: Sequence[LedgerRow], rankers: Sequence[str]) -> np.ndarray:
    """How good each of N architectures is, [N], larger is better.

    With one ranker: its values. With several: the mean of two ranks among these N, as a share of N, one by the first
    ranker and one by the rank sum of the others. Such a standing depends on which other architectures there are.
    """
    first, *others = (np.array([row[name] for row in rows]) for name in rankers)
    return statistics.two_voices(first, others) / (2 * len(rows)) if others else first


class Ledger:
    """A file of whole generations, in their order.

    Attributes:
        rankers: names of its columns, the ranker that trains networks first.
    """

    def __init__(self, path: Path, rankers: Sequence[str]) -> None:
        """Open a ledger, or start one.

        Raises:
            ValueError: the file is torn or something else.
        """
        self.path, self.rankers, self.rows = path, tuple(rankers), list[dict[str, Any]]()
        if path.exists():
            self.rows = tables.read(path, schema(rankers), "ledger")

    def generation(self, number: int) -> list[dict[str, Any]]:
        """The rows of a generation, none where it is not complete."""
        return [row for row in self.rows if row["generation"] == number]

    def add(self, generation: int, archs: Sequence[Arch], values: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Write a generation, whole or not at all.

        Args:
            values: what each ranker gave, [N].

        Returns:
            Its rows. A score is the standing among all architectures that were proposed so far.
        """
        start = len(self.rows)
        self.rows += [
            {"generation": generation, "index": start + n, "architecture": arch.text, "key": arch.key,
             **{name: float(values[name][n]) for name in self.rankers}}
            for n, arch in enumerate(archs)
        ]  # fmt: skip
        fresh = self.rows[start:]
        for row, standing in zip(fresh, standings(self.rows, self.rankers)[start:].tolist()):
            row["score"] = standing
        tables.write(self.path, self.rows, schema(self.rankers))
        return fresh

    def expected_scores(self) -> list[float]:
        """The score that each row must have: its standing among the rows up to the end of its generation."""
        scores: list[float] = []
        for _, rows in itertools.groupby(self.rows, key=lambda row: row["generation"]):
            end = len(scores) + len(list(rows))
            scores += standings(self.rows[:end], self.rankers)[len(scores) :].tolist()
        return scores

    def best(self, count: int) -> list[dict[str, Any]]:
        """The rows with the best standing among all, each architecture once, the earliest first among equals.

        Their score is that standing.
        """
        rows = [{**row, "score": score} for row, score in zip(self.rows, standings(self.rows, self.rankers).tolist())]
        by_text: dict[str, dict[str, Any]] = {}
        for row in sorted(rows, key=lambda row: (-row["score"], row["index"])):
            by_text.setdefault(row["architecture"], row)
        return list(by_text.values())[:count]
