"""The ledger: every decision of a search, one row for each architecture that was asked for, as Parquet.

Nothing in it depends on who computed what, or when: an undisturbed search and one that was killed and resumed write
the same rows. A row keeps what each ranker said; its score is what the searcher was told.
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
from raystill.search.ranking.rankers import RANKERS

SCHEMA = pa.schema([
    ("generation", pa.int64()), ("index", pa.int64()), ("architecture", pa.string()), ("key", pa.string()),
    ("score", pa.float64()), *((name, pa.float64()) for name in RANKERS),
])  # fmt: skip


def standings(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """How good each of N architectures is, [N], larger is better.

    By one ranker, what it says. By several, the first is one voice and the others together are another: the mean of the
    two ranks among these N, as a share of N, so that a standing rises and falls with the company.
    """
    first, *others = (np.array([row[name] for row in rows]) for name in asked(rows))
    return statistics.two_voices(first, others) / (2 * len(rows)) if others else first


def asked(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rankers that a search asked, the one that trains first, as RANKERS has them."""
    return [name for name in RANKERS if rows[0][name] is not None]


class Ledger:
    """A file of whole generations, in their order."""

    def __init__(self, path: Path) -> None:
        """Open a ledger, or begin one.

        Raises:
            ValueError: the file is torn or something else.
        """
        self.path, self.rows = path, list[dict[str, Any]]()
        if path.exists():
            self.rows = tables.read(path, SCHEMA, "ledger")

    def generation(self, number: int) -> list[dict[str, Any]]:
        """The rows of a generation, none where it is not complete."""
        return [row for row in self.rows if row["generation"] == number]

    def add(self, generation: int, archs: Sequence[Arch], said: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """A generation, whole or not at all.

        Args:
            said: by each ranker, [N].

        Returns:
            Its rows. A score is the standing among all that were asked for so far.
        """
        start = len(self.rows)
        self.rows += [
            {"generation": generation, "index": start + n, "architecture": arch.text, "key": arch.key,
             **{name: float(said[name][n]) if name in said else None for name in RANKERS}}
            for n, arch in enumerate(archs)
        ]  # fmt: skip
        fresh = self.rows[start:]
        for row, standing in zip(fresh, standings(self.rows)[start:].tolist()):
            row["score"] = standing
        tables.write(self.path, self.rows, SCHEMA)
        return fresh

    def due(self) -> list[float]:
        """What each row's score has to be, by what the rankers said of it and of those asked for until then."""
        found: list[float] = []
        for _, rows in itertools.groupby(self.rows, key=lambda row: row["generation"]):
            end = len(found) + len(list(rows))
            found += standings(self.rows[:end])[len(found) :].tolist()
        return found

    def best(self, many: int) -> list[dict[str, Any]]:
        """The rows that stand best among all, each architecture once, the earliest first among equals.

        Their score is that standing.
        """
        found: dict[str, dict[str, Any]] = {}
        rows = [{**row, "score": standing} for row, standing in zip(self.rows, standings(self.rows).tolist())]
        for row in sorted(rows, key=lambda row: (-row["score"], row["index"])):
            found.setdefault(row["architecture"], row)
        return list(found.values())[:many]
