"""A search over hyperparameters: each trial a run with its own evaluator, and a resume that loses none."""

from __future__ import annotations

from pathlib import Path

import pytest

from raystill.platform import runs
from raystill.platform.spec import DistillSpec
from raystill.search.tune import resume, tune

pytestmark = pytest.mark.ray


def test_trials_are_runs_and_a_resume_keeps_them(tmp_path: Path, ray_cluster: None) -> None:
    spec = DistillSpec.model_validate({
        "learner": {"name": "linear"}, "synthesizer": {"steps": 1, "epochs": 1, "start": "average"},
        "outer": {"steps": 4, "members": 1, "chunk": 1, "batch_size": 32},
        "validation": {"every": 2, "networks": 1, "images": 50},
        "run": {"out": tmp_path, "workers": 1, "device": "cpu"}, "tracking": {"enabled": False},
    })  # fmt: skip
    over = ["outer.lr=loguniform:1e-3:1e-1", "inner.lr=choice:0.01,0.1"]
    found = tune(spec, {"over": over, "trials": 2, "scheduler": "asha", "searcher": "optuna", "time_budget": None})
    assert len(found["trials"]) == 2
    assert not found["failed"]
    for row in found["trials"]:
        assert 0.001 <= row["values"]["outer.lr"] <= 0.1
    (folder,) = tmp_path.iterdir()
    rates = {runs.load(path.parent).outer.lr for path in folder.glob("trials/*/spec.yaml")}
    assert rates == {row["values"]["outer.lr"] for row in found["trials"]}
    again = resume(folder)
    assert again["best"]["validation"] == found["best"]["validation"]
