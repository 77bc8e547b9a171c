"""The ledger: every decision of a search, one row for each architecture that was asked for, as Parquet.

Nothing in it depends on who computed what, or when: an undisturbed search and one that was killed and resumed write
the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from raystill.search import tables
from raystill.search.space import Arch

SCHEMA = pa.schema([
    ("generation", pa.int64()), ("index", pa.int64()), ("architecture", pa.string()), ("key", pa.string()),
    ("score", pa.float64()),
])  # fmt: skip


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

    def add(self, generation: int, archs: Sequence[Arch], scores: Sequence[float]) -> None:
        """A generation, whole or not at all."""
        start = len(self.rows)
        self.rows += [
            {"generation": generation, "index": start + n, "architecture": a.text, "key": a.key, "score": float(s)}
            for n, (a, s) in enumerate(zip(archs, scores))
        ]
        tables.write(self.path, self.rows, SCHEMA)

    def best(self, many: int) -> list[dict[str, Any]]:
        """The rows with the best scores, each architecture once, the earliest first among equals."""
        found: dict[str, dict[str, Any]] = {}
        for row in sorted(self.rows, key=lambda row: (-row["score"], row["index"])):
            found.setdefault(row["architecture"], row)
        return list(found.values())[:many]
