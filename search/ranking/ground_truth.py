"""Ground truth: accuracies of architectures trained on real data by a fixed protocol, with which rankers are compared.

A Parquet file for each level, a row for each network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from raystill.platform.architectures import Arch, parse, space
from raystill.platform.data import load as load_data
from raystill.platform.files import tables
from raystill.platform.spec import DistillSpec
from raystill.platform.work.problem import resolve_auto
from raystill.platform.work.workbench import Workbench
from raystill.search.ranking import training
from raystill.search.ranking.levels import Level, level

KIND = "ground truth"
SCHEMA = pa.schema([
    ("space", pa.string()), ("architecture", pa.string()), ("data", pa.string()), ("pixels", pa.int64()),
    ("seed", pa.int64()), ("validation", pa.float64()), ("test", pa.float64()), ("validation_before", pa.float64()),
    ("parameters", pa.int64()), ("flops", pa.int64()), ("cpu_seconds", pa.float64()), ("protocol", pa.string()),
    ("fingerprint", pa.string()),
])  # fmt: skip
ENOUGH = 24
"""Architectures from which on an unfinished seed counts. They come in the order of their draw, so that many tell the
noise of all within a few hundredths."""


@dataclass(frozen=True)
class GroundTruth:
    """A level's rows as arrays, for N architectures and S seeds.

    Attributes:
        archs: [N].
        test: test accuracy [N, S] in percent, NaN where a network is missing.
        validation: likewise.
        seconds: CPU seconds of the training [N, S].
        fingerprint: of the data.
    """

    archs: tuple[Arch, ...]
    test: np.ndarray
    validation: np.ndarray
    seconds: np.ndarray
    fingerprint: str

    @property
    def mean(self) -> np.ndarray:
        """Mean test accuracy over the seeds [N]."""
        return np.asarray(np.nanmean(self.test, 1))


def load(path: Path) -> GroundTruth:
    """The rows of a file, by architecture and seed; an unfinished seed is taken once it has `ENOUGH` architectures.

    Raises:
        ValueError: not such a file, or no seed is complete.
    """
    rows = tables.read(path, SCHEMA, KIND)
    texts = list(dict.fromkeys(row["architecture"] for row in rows))
    networks = {(row["architecture"], row["seed"]): row for row in rows}
    counts = {s: sum((t, s) in networks for t in texts) for s in sorted({row["seed"] for row in rows})}
    seeds = [s for s, n in counts.items() if n >= min(ENOUGH, len(texts))]
    if len(texts) not in counts.values():
        raise ValueError(f"{path}: no seed has all of its {len(texts)} architectures yet; let it finish")

    def column(name: str, scale: float) -> np.ndarray:
        missing = {name: float("nan")}
        return scale * np.array([[networks.get((t, s), missing)[name] for s in seeds] for t in texts])

    return GroundTruth(
        tuple(map(parse, texts)), column("test", 100), column("validation", 100), column("cpu_seconds", 1),
        rows[0]["fingerprint"],
    )  # fmt: skip


def train_missing(
    name: str, path: Path, command: str, tell: Callable[[str], None], seeds: Sequence[int] | None = None,
    changed: Level | None = None,
) -> int:  # fmt: skip
    """Train the networks that a level's file lacks, and save a row as soon as each is trained.

    Args:
        command: that the file names as its maker.
        tell: takes a line of progress for each network.
        seeds: of these alone; None takes all of the level's.
        changed: in place of the level of that name, to try another protocol, space or count.

    Returns:
        How many networks were trained.

    Raises:
        ValueError: unknown level, or the file was made by another protocol or from other data.
    """
    asked = changed or level(name)
    data = load_data(asked.data)
    space(asked.space).check(data.shape)
    rows = tables.read(path, SCHEMA, KIND) if path.exists() else []
    same = {"protocol": str(asked.protocol), "fingerprint": data.fingerprint}
    for key, value in same.items():
        if other := next((row[key] for row in rows if row[key] != value), None):
            raise ValueError(f"{path}: has rows of another {key} ({other}, not {value}); move it away")
    done = {(row["architecture"], row["seed"]) for row in rows}
    bench, count = Workbench(resolve_auto(DistillSpec(data=asked.data), "cpu"), None, data), 0
    for seed in range(asked.seeds) if seeds is None else seeds:
        for arch in asked.architectures():
            if (arch.text, seed) in done:
                continue
            numbers, _ = training.train_network(bench, arch, seed, asked.protocol)
            names = {"space": asked.space, "architecture": arch.text, "data": asked.data.source}
            rows.append({**names, "pixels": data.shape[-1], "seed": seed, **numbers, **same})
            save(path, rows, command)
            count += 1
            tell(f"{name} {count} {arch.text} seed {seed} test {numbers['test']:.4f} cpu {numbers['cpu_seconds']:.1f}")
    return count


def save(path: Path, rows: list[dict[str, Any]], command: str) -> None:
    """Write the table as Parquet, whole or not at all, with the command and the versions that made it."""
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    facts = {b"raystill": json.dumps({"command": command, "versions": versions}).encode()}
    tables.write(path, rows, SCHEMA.with_metadata(facts))
