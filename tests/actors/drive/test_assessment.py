"""The table: every baseline in it, and two spreads that are not one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from raystill.actors.drive import pipeline
from raystill.platform.evaluation import assessment
from raystill.platform.runs import folder as runs
from raystill.platform.spec import DistillSpec


def spec(out: Path, **changes: object) -> DistillSpec:
    return DistillSpec.model_validate(
        {
            "data": {"limit": 400},
            "learner": {"name": "mlp", "width": 16},
            "synthesizer": {"steps": 2, "epochs": 2, "start": "average", "labels": changes.pop("labels", "hard")},
            "initialisation": {"kind": changes.pop("kind", "random")},
            "inner": {"lr": 0.1},
            "outer": {"steps": 4, "members": 2, "chunk": 1, "batch_size": 64},
            "validation": {"every": 2, "networks": 2, "images": 50},
            "assess": {"networks": 3, "candidates": 5, "architectures": ["linear"], "cross_networks": 2},
            "run": {"out": out, "workers": 0, **changes},
            "tracking": {"enabled": False},
        }
    )


@pytest.mark.parametrize(("kind", "labels"), [("random", "hard"), ("fixed", "hard"), ("random", "soft")])
def test_every_baseline_is_measured(tmp_path: Path, kind: str, labels: str) -> None:
    pipeline.distill(spec(tmp_path, kind=kind, labels=labels))
    found = json.loads((tmp_path / "run-1" / "assessment.json").read_text())
    rows = {row["name"]: row for row in found["rows"]}
    baselines = [name for name, row in rows.items() if row["kind"] == "baseline"]
    nearest = [f"{k}-NN (l{norm}) on random real" for k in (1, 3) for norm in (1, 2)]
    assert baselines == ["random real", "optimised real", "class averages", "k-means centroids", *nearest]
    assert {row["kind"] for row in rows.values()} == {
        "distilled",
        "baseline",
        "reference",
        "architecture",
        "robustness",
    }
    assert all(row["images"] == 20 for row in rows.values() if row["same_budget"])
    assert rows["distilled"]["n"] == (1 if kind == "fixed" else 3)
    for row in rows.values():
        assert row["accuracy_mean"] == pytest.approx(np.mean(row["values"]), abs=1e-3)
        assert row["spread_over"]
    assert found["split"] == "test"


def test_two_spreads_are_two_columns(tmp_path: Path) -> None:
    quick = {"assess": {"networks": 2, "baselines": False}}
    for seed in (0, 1, 2):
        one = DistillSpec.model_validate({**spec(tmp_path, seed=seed, name=f"seed-{seed}").dump(), **quick})
        pipeline.distill(one)
    other = DistillSpec.model_validate({**spec(tmp_path, seed=3, name="other").dump(), **quick, "inner": {"lr": 0.2}})
    pipeline.distill(other)
    rows = [json.loads((tmp_path / f"seed-{s}" / "assessment.json").read_text())["rows"][0] for s in (0, 1, 2)]
    means = [row["accuracy_mean"] for row in rows]
    assert "distillation_seeds" not in rows[0], "the first had none beside it"
    assert rows[2]["distillation_seeds"]["n"] == 3
    assert rows[2]["distillation_seeds"]["mean"] == pytest.approx(np.mean(means))
    assert rows[2]["distillation_seeds"]["std"] == pytest.approx(np.std(means, ddof=1))
    assert rows[2]["accuracy_std"] != rows[2]["distillation_seeds"]["std"]
    lonely = json.loads((tmp_path / "other" / "assessment.json").read_text())["rows"][0]
    assert "distillation_seeds" not in lonely


def test_assessing_again_replaces_the_table(tmp_path: Path) -> None:
    made = spec(tmp_path)
    pipeline.distill(made)
    folder = tmp_path / "run-1"
    before = (folder / "artefact" / "data.parquet").read_bytes()
    changed = runs.load(folder).assess.model_copy(update={"networks": 2, "baselines": False, "architectures": ()})
    found = pipeline.assess_run(folder, {"assess": changed})
    assert [row["name"] for row in found["rows"]] == ["distilled"]
    assert json.loads((folder / "assessment.json").read_text())["rows"][0]["n"] == 2
    assert (folder / "artefact" / "data.parquet").read_bytes() == before
    assert assessment.BASELINES.keys() == {"real", "average", "kmeans"}
