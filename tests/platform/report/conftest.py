"""A made-up run folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raystill.platform import runs, seeds
from raystill.platform.artifacts.files import Distilled, save_distilled
from raystill.platform.spec import DistillSpec


def _distilled(steps: int, per_step: int, soft: bool, shape: tuple[int, int, int], classes: list[str]) -> Distilled:
    rng = seeds.numpy_rng(seeds.Address(1))
    count = len(classes)
    labels = np.tile(np.arange(per_step) % count, (steps, 1)).astype(np.int64)
    return Distilled(
        rng.standard_normal((steps, per_step, *shape)).astype(np.float32),
        rng.uniform(-0.1, 1, (steps, per_step, count)).astype(np.float32) if soft else labels,
        {"lr": np.linspace(0.03, 0.01, 3 * steps).astype(np.float32)},
        np.tile(np.arange(steps), 3).astype(np.int64),
        None,
        {
            "learner": {"name": "lenet"},
            "classes": classes,
            "normalisation": {"mean": [0.13] * shape[0], "std": [0.31] * shape[0]},
            "fingerprint": "abc" * 20,
            "seeds": {"run": 7},
            "versions": {"torch": "2.x"},
        },
    )


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """Makes a run folder: `made(steps=1, per_step=10, soft=False, shape=..., classes=..., rows=..., history=...)`."""

    def make(
        steps: int = 1,
        per_step: int = 10,
        soft: bool = False,
        shape: tuple[int, int, int] = (1, 8, 8),
        classes: list[str] | None = None,
        rows: list[dict[str, Any]] | None = None,
        history: int = 30,
        spec: dict[str, Any] | None = None,
    ) -> Path:
        folder = tmp_path / "run-1"
        folder.mkdir()
        names = classes or [str(k) for k in range(10)]
        save_distilled(folder / "artefact", _distilled(steps, per_step, soft, shape, names))
        (folder / runs.SPEC).write_text(runs.dump(DistillSpec.model_validate(spec or {})))
        if history:
            t = np.arange(1, history + 1)
            known = [None if step % 10 else 90.0 + step / 100 for step in t]
            columns: dict[str, Any] = {"step": t, "meta_loss": 2.0 / t, "grad_norm": 1.0 / t}
            columns |= {name: np.full(history, 0.5) for name in ("seconds", "cpu_seconds", "members_per_second")}
            columns |= {n: pa.array(known, pa.float64()) for n in ("validation_accuracy", "validation_std")}
            pq.write_table(pa.table(columns), folder / "history.parquet")
        if rows is not None:
            facts = {"split": "test", "test_images": 10000, "seeds": {"networks": 1}, "seconds": 9.5, "rows": rows}
            (folder / "assessment.json").write_text(json.dumps(facts))
        return folder

    return make
