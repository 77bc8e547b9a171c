"""A search over hyperparameters: each trial a run with its own evaluator, and a resume that loses none.

The parent run in MLflow says how the search ended; its children are whole and single after a resume.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

from raystill.actors import Interrupted
from raystill.platform.runs import folder as runs
from raystill.platform.spec import DistillSpec
from raystill.search.tune import result
from raystill.search.tune.run import resume, tune
from raystill.search.tune.tracking import TRIAL, TrialTracking

pytestmark = pytest.mark.ray


def test_trials_are_runs_and_a_resume_keeps_them(
    tmp_path: Path, ray_cluster: None, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    spec = DistillSpec.model_validate({
        "learner": {"name": "linear"}, "synthesizer": {"steps": 1, "epochs": 1, "start": "average"},
        "outer": {"steps": 4, "members": 1, "chunk": 1, "batch_size": 32},
        "validation": {"every": 2, "networks": 1, "images": 50},
        "run": {"out": tmp_path / "runs", "workers": 1, "device": "cpu"}, "tracking": {"uri": store},
    })  # fmt: skip
    over = ["outer.lr=loguniform:1e-3:1e-1", "inner.lr=choice:0.01,0.1"]
    client = MlflowClient(store)

    def tracked() -> tuple[Run, dict[str, Run]]:
        experiment = client.get_experiment_by_name("raystill")
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id])
        (parent,) = [run for run in found if TRIAL not in run.data.tags]
        children = {run.data.tags[TRIAL]: run for run in found if run is not parent}
        assert len(children) == len(found) - 1
        assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
        return parent, children

    def crash(*given: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(TrialTracking, "complete", lambda *given: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(Interrupted, match="go on with: raystill resume"):
            tune(spec, {"over": over, "trials": 2, "scheduler": "asha", "searcher": "optuna", "time_budget": None})
    assert tracked()[0].info.status == "KILLED"
    (folder,) = (tmp_path / "runs").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(result, "write", crash)
        with pytest.raises(MemoryError):
            resume(folder)
    parent, children = tracked()
    assert parent.info.status == "FAILED"
    assert {run.info.status for run in children.values()} == {"FINISHED"}
    lost, kept = sorted(children)
    client.delete_run(children[lost].info.run_id)

    found = resume(folder)
    assert len(found["trials"]) == 2
    assert not found["failed"]
    for row in found["trials"]:
        assert 0.001 <= row["values"]["outer.lr"] <= 0.1
    rates = {runs.load(path.parent).outer.lr for path in folder.glob("trials/*/spec.yaml")}
    assert rates == {row["values"]["outer.lr"] for row in found["trials"]}
    parent, again = tracked()
    assert parent.info.status == "FINISHED"
    assert set(again) == {lost, kept}
    assert again[kept].info.run_id == children[kept].info.run_id
    for run in again.values():
        points = client.get_metric_history(run.info.run_id, "validation")
        assert {m.step for m in points} <= {2, 3, 4}
        assert points
    best = max(run.data.metrics.get("best_validation", 0) for run in again.values())
    assert best == pytest.approx(found["best"]["validation"])
