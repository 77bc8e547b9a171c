"""The driver is killed at random steps, five times; what comes out is what an undisturbed run gives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raystill.actors.drive import pipeline
from raystill.actors.record import commit_log
from raystill.platform import seeds
from raystill.platform.runs import folder as runs
from tests.actors.test_cluster import digest, spec

COMMAND = [sys.executable, "-m", "raystill.platform.cli"]


@pytest.mark.chaos
def test_five_kills_change_no_byte_and_no_step_is_tracked_twice(tmp_path: Path) -> None:
    whole = spec(tmp_path / "whole", 0, steps=60, delay=1)
    pipeline.distill(whole)
    steps = sorted(1 + seeds.numpy_rng(seeds.Address(7)).choice(59, 5, replace=False))
    faults = tuple(f"driver at step {step}: kill" for step in steps)
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    made = whole.model_copy(
        update={
            "run": whole.run.model_copy(update={"out": tmp_path / "cut", "faults": faults}),
            "tracking": whole.tracking.model_copy(update={"enabled": True, "uri": store}),
        }
    )
    config, folder = tmp_path / "run.yaml", tmp_path / "cut" / "run-1"
    config.write_text(runs.dump(made))
    codes = []
    for words in [["distill", "--config", str(config)], *[["resume", str(folder)]] * 5]:
        done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=120, env={**os.environ})
        codes.append(done.returncode)
    assert codes == [-signal.SIGKILL] * 5 + [0], done.stderr
    assert digest(folder / "artefact") == digest(tmp_path / "whole" / "run-1" / "artefact")

    from mlflow import MlflowClient

    client = MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("raystill").experiment_id])
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "meta_loss")
    assert sorted(metric.step for metric in history) == list(range(1, 61))
    log = [r for r in commit_log.read(folder / "commits").to_pylist() if r["kind"] == "apply"]
    stamps: dict[int, set[int]] = {}
    for row in log:
        stamps.setdefault(row["step"] + 1, set()).add(row["time_ms"])
    assert all(metric.timestamp in stamps[metric.step] for metric in history), "time stamps are the commit log's"
