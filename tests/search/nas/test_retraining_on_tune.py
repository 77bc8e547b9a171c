"""Retraining by Ray Tune gives the networks of the work items, but for those that it stops; a stop loses nothing."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from raystill.actors.drive.replay import command
from raystill.platform import learners
from raystill.platform.architectures import parse
from raystill.platform.data import load
from raystill.platform.spec import DataSpec, RunSpec, TrackingSpec
from raystill.platform.work.problem import resolve_auto
from raystill.platform.work.workbench import Workbench
from raystill.search.nas import retraining_on_tune
from raystill.search.nas.retraining import WEIGHTS
from raystill.search.nas.run import RESULT, resume
from raystill.search.nas.run import search_architecture as nas
from raystill.search.nas.spec import NasSpec
from raystill.search.ranking import training
from raystill.search.ranking.evaluators import host_spec
from raystill.search.ranking.levels import Protocol
from raystill.search.tune.tracking import TRIAL, TrialTracking

FIGURES = ("validation", "test", "steps")


def test_rungs_are_a_ninth_a_third_and_the_end() -> None:
    assert retraining_on_tune.rungs(768) == (85, 256, 768)
    assert retraining_on_tune.rungs(3) == (1, 3)
    assert retraining_on_tune.rungs(1) == (1,)


def test_a_trial_that_is_moved_halfway_ends_with_the_bits_of_an_evaluator_s_network(tmp_path: Path) -> None:
    run = RunSpec(out=tmp_path, workers=0)
    spec = resolve_auto(host_spec(DataSpec(), run, TrackingSpec(enabled=False)), "cpu")
    text, protocol = "macro:d1-w4-x1-k3-max-group-relu-fc", Protocol(18)

    def trial() -> retraining_on_tune.Trial:
        made = object.__new__(retraining_on_tune.Trial)  # Tune's own constructor wants a place to log to
        made.setup({"architecture": text}, spec.dump(), protocol, 3, {})
        return made

    first, second = trial(), trial()
    assert first.step()["step"] == 2
    told = first.step()
    assert (told["step"], told["done"], "test" in told) == (6, False, False)
    first.save_checkpoint(str(tmp_path))
    second.load_checkpoint(str(tmp_path))
    last = second.step()
    bench = Workbench(spec, None, load(DataSpec()))
    numbers, theta = training.train_network(bench, parse(text), 3, protocol)
    assert (last["step"], last["done"]) == (18, True)
    assert [last[k] for k in ("validation", "test")] == [100 * numbers["validation"], 100 * numbers["test"]]
    assert last["cpu_seconds"] > told["cpu_seconds"]
    second.save_checkpoint(str(tmp_path))
    kept = safetensors.numpy.load_file(tmp_path / retraining_on_tune.WEIGHTS)["theta"]
    np.testing.assert_array_equal(kept, theta.numpy())


@pytest.mark.ray
def test_retrained_candidates_by_asha_are_those_of_the_evaluators_or_stopped(
    tmp_path: Path, ray_cluster: None, small: Callable[..., NasSpec], store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"retrain": 6, "retrain_steps": 36, "candidates": 8}
    whole = nas(small(tmp_path / "all", **changes))
    by = {row["architecture"]: row for row in whole["retrained"]}
    complete, calls = TrialTracking.complete, []

    def halt(self: TrialTracking, found: Any) -> None:
        calls.append(len(found))
        if len(calls) == 1:
            raise MemoryError  # the driver is lost when all trials are done and nothing is written down
        complete(self, found)

    monkeypatch.setattr(TrialTracking, "complete", halt)
    lost(small(tmp_path / "asha", workers=1, retrain_by="asha", tracking={"uri": store}, **changes))
    folder = tmp_path / "asha" / "nas-1"
    assert not (folder / RESULT).exists()
    found = resume(folder)
    assert calls == [6, 6]
    ended = [row for row in found["retrained"] if row["test"] is not None]
    stopped = [row for row in found["retrained"] if row["test"] is None]
    assert len(ended) + len(stopped) == 6
    assert ended
    for row in ended:
        assert [row[k] for k in FIGURES] == [by[row["architecture"]][k] for k in FIGURES]
    for row in stopped:
        assert row["steps"] in retraining_on_tune.rungs(36)[:2]
    assert [row["architecture"] for row in found["retrained"]] == [row["architecture"] for row in whole["retrained"]]
    assert found["pick"] == max(ended, key=lambda row: (row["validation"], -found["retrained"].index(row)))
    theta = safetensors.numpy.load_file(folder / WEIGHTS)["theta"]
    arch = parse(found["pick"]["architecture"])
    learners.wrap(arch.build((1, 8, 8), 10)).load(torch.tensor(theta))
    page = (folder / "report.html").read_text()
    assert page.count(">stopped</td>") == len(stopped)
    assert json.loads((folder / RESULT).read_text())["retrain_by"] == "asha"
    children_are_whole(store, 6)
    assert command([str(folder)]) == 0


def lost(spec: NasSpec) -> None:
    """A search whose driver is gone: nothing of it is held, not even by a traceback."""
    try:
        nas(spec)
    except MemoryError:
        gc.collect()
        return
    raise AssertionError("the search was not stopped")


def children_are_whole(store: str, many: int) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("raystill")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    trials = [run for run in runs if TRIAL in run.data.tags]
    assert len(trials) == many
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert all("architecture" in run.data.params and "validation" in run.data.metrics for run in trials)
