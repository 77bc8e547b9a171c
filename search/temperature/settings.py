"""Settings of a search and the students that they were tried with: a table, means, the choice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from raystill.platform.evaluation.summary import Summary, summary
from raystill.platform.files import tables


class Setting(NamedTuple):
    """The student's width (0: that of its spec), T and alpha."""

    width: int
    temperature: float
    alpha: float

    def __str__(self) -> str:
        own = f"width {self.width}, " if self.width else ""
        return f"{own}T {self.temperature:.3g}, alpha {self.alpha:.3g}"


class StudentScore(NamedTuple):
    """One student: its setting, seed and training steps, and its accuracy (0 to 1) on the validation split."""

    width: int
    temperature: float
    alpha: float
    seed: int
    steps: int
    accuracy: float

    @property
    def setting(self) -> Setting:
        """Its setting."""
        return Setting(self.width, self.temperature, self.alpha)


SCHEMA = pa.schema([
    ("width", pa.int64()), ("temperature", pa.float64()), ("alpha", pa.float64()), ("seed", pa.int64()),
    ("steps", pa.int64()), ("accuracy", pa.float64()),
])  # fmt: skip


def write(path: Path, rows: Iterable[StudentScore]) -> None:
    """Write students as Parquet."""
    tables.write(path, [row._asdict() for row in rows], SCHEMA)


def read(path: Path) -> list[StudentScore]:
    """The students of a search.

    Raises:
        ValueError: not such a file.
    """
    return [StudentScore(**row) for row in tables.read(path, SCHEMA, "table of settings")]


def summaries(rows: Iterable[StudentScore], steps: int) -> dict[Setting, Summary]:
    """Mean, spread and number over the seeds of each setting whose students took `steps`, in the order of the rows."""
    accuracies: dict[Setting, list[float]] = {}
    for row in rows:
        if row.steps == steps:
            accuracies.setdefault(row.setting, []).append(row.accuracy)
    return {setting: summary(values) for setting, values in accuracies.items()}


def ranked(rows: Iterable[StudentScore], steps: int) -> list[Setting]:
    """Settings by their mean accuracy after `steps`, the best first; the earlier one where they tie."""
    means = summaries(rows, steps)
    return sorted(means, key=lambda setting: -means[setting].mean)


def chosen(rows: Iterable[StudentScore], steps: int) -> dict[int, Setting]:
    """The best setting of each width."""
    best: dict[int, Setting] = {}
    for setting in ranked(rows, steps):
        best.setdefault(setting.width, setting)
    return dict(sorted(best.items()))
