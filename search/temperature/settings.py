"""Settings of a search and what is known of them: rows, means, the choice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from raystill.platform.evaluation.summary import Summary, summary
from raystill.platform.files import tables


class Setting(NamedTuple):
    """One point: the student's width (0: its own), T and alpha."""

    width: int
    temperature: float
    alpha: float

    def __str__(self) -> str:
        own = f"width {self.width}, " if self.width else ""
        return f"{own}T {self.temperature:.3g}, alpha {self.alpha:.3g}"


class Row(NamedTuple):
    """One student: its setting, its seed, the steps it took, and its accuracy on the validation split."""

    width: int
    temperature: float
    alpha: float
    seed: int
    steps: int
    accuracy: float

    @property
    def setting(self) -> Setting:
        """What was set."""
        return Setting(self.width, self.temperature, self.alpha)


SCHEMA = pa.schema([
    ("width", pa.int64()), ("temperature", pa.float64()), ("alpha", pa.float64()), ("seed", pa.int64()),
    ("steps", pa.int64()), ("accuracy", pa.float64()),
])  # fmt: skip


def write(path: Path, rows: Iterable[Row]) -> None:
    """Keep rows as Parquet."""
    tables.write(path, [row._asdict() for row in rows], SCHEMA)


def read(path: Path) -> list[Row]:
    """The rows of a search.

    Raises:
        ValueError: not such a file.
    """
    return [Row(**row) for row in tables.read(path, SCHEMA, "table of settings")]


def summaries(rows: Iterable[Row], steps: int) -> dict[Setting, Summary]:
    """Mean, spread and number over the seeds of each setting that took all of its steps, in the order of the rows."""
    found: dict[Setting, list[float]] = {}
    for row in rows:
        if row.steps == steps:
            found.setdefault(row.setting, []).append(row.accuracy)
    return {setting: summary(values) for setting, values in found.items()}


def ranked(rows: Iterable[Row], steps: int) -> list[Setting]:
    """Settings by their mean accuracy; the earlier one where they tie."""
    means = summaries(rows, steps)
    return sorted(means, key=lambda setting: -means[setting].mean)


def chosen(rows: Iterable[Row], steps: int) -> dict[int, Setting]:
    """The best setting of each width."""
    best: dict[int, Setting] = {}
    for setting in ranked(rows, steps):
        best.setdefault(setting.width, setting)
    return dict(sorted(best.items()))
