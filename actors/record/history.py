"""Curves of a run, read off its commit log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raystill.actors.items import validation_items
from raystill.actors.record import commit_log
from raystill.platform.spec import DistillSpec

SCHEMA = pa.schema(
    [("step", pa.int64())]
    + [(n, pa.float64()) for n in ("meta_loss", "gradient_norm", "rate", "seconds", "cpu_seconds", "members_per_second",
                                   "validation_accuracy", "validation_std")]
)  # fmt: skip


def rows(folder: Path) -> list[dict[str, Any]]:
    """One row per applied outer step, each step once, the latest session's where a resume repeated it."""
    log = commit_log.read(folder / "commits").to_pylist()
    steps: dict[int, dict[str, Any]] = {}
    spent: dict[int, dict[int, float]] = {}
    scores: dict[int, dict[int, float]] = {}
    for row in log:
        numbers = dict(row["numbers"])
        if row["status"] != "ok":
            continue
        if row["kind"] == "apply":
            steps[row["step"]] = {"step": row["step"] + 1, "seconds": row["seconds"], **numbers}
        elif row["kind"] == "meta_gradient":
            spent.setdefault(row["step"], {})[row["member"]] = row["cpu_seconds"]
        elif row["kind"] == "validate":
            scores.setdefault(row["version"], {})[row["member"]] = numbers["accuracy"]
    for step, row in steps.items():
        row["cpu_seconds"] = sum(spent.get(step, {}).values())
        if accuracies := scores.get(step + 1):
            values = 100 * np.array([accuracies[k] for k in sorted(accuracies)])
            row["validation_accuracy"] = float(values.mean())
            row["validation_std"] = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return [steps[k] for k in sorted(steps)]


def record(folder: Path, spec: DistillSpec) -> Iterator[tuple[int, dict[str, float], int]]:
    """(step, values, time_ms) of all that tracking shows of a run, with the times at which it was committed.

    A snapshot is left out until its every network is scored.
    """
    steps: dict[int, tuple[dict[str, float], int]] = {}
    scores: dict[int, dict[int, tuple[float, int]]] = {}
    for row in commit_log.read(folder / "commits").to_pylist():
        if row["status"] != "ok":
            continue
        if row["kind"] == "apply":
            steps[row["step"] + 1] = dict(row["numbers"]), row["time_ms"]
        elif row["kind"] == "validate":
            scores.setdefault(row["version"], {})[row["member"]] = dict(row["numbers"])["accuracy"], row["time_ms"]
    for step in sorted(steps):
        yield step, *steps[step]
    for version in sorted(scores):
        if len(scores[version]) == len(validation_items(spec, version)):
            accuracies, times = zip(*(scores[version][member] for member in sorted(scores[version])))
            yield version, {"validation_accuracy": float((100 * np.array(accuracies)).mean())}, max(times)
    table = folder / "assessment.json"
    if table.exists():
        rows = json.loads(table.read_text())["rows"]
        tested = {f"test/{row['name']}": row["accuracy_mean"] for row in rows}
        yield spec.outer.steps, tested, int(table.stat().st_mtime * 1000)


def write(folder: Path) -> Path:
    """`history.parquet` of a run."""
    path = folder / "history.parquet"
    pq.write_table(pa.Table.from_pylist(rows(folder), SCHEMA), path)
    return path


def cpu_seconds(folder: Path) -> float:
    """CPU seconds that evaluators spent on a run's distillation, repeated and lost work and validation included."""
    kinds = ("meta_gradient", "validate")
    return sum(row["cpu_seconds"] for row in commit_log.read(folder / "commits").to_pylist() if row["kind"] in kinds)
