"""Pools on a cluster: the same bytes for any number of evaluators, and after one of them was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raystill.actors import pretrain
from raystill.actors.record import commit_log
from raystill.platform.spec import PretrainSpec

pytestmark = pytest.mark.ray


def spec(out: Path, workers: int, **run: Any) -> PretrainSpec:
    return PretrainSpec.model_validate(
        {
            "data": {"limit": 200},
            "learner": {"name": "mlp", "width": 8, "depth": 1},
            "members": 6,
            "held_out": 2,
            "epochs": 2,
            "run": {"out": out, "workers": workers, "name": "pool", "device": "cpu", **run},
        }
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return pretrain.pretrain(spec(tmp_path_factory.mktemp("here"), 0)).content


@pytest.mark.parametrize("workers", [1, 2])
def test_evaluators_change_no_byte(tmp_path: Path, ray_cluster: None, undisturbed: str, workers: int) -> None:
    assert pretrain.pretrain(spec(tmp_path, workers)).content == undisturbed


def test_a_killed_evaluator_changes_no_byte(tmp_path: Path, ray_cluster: None, undisturbed: str) -> None:
    faults = ("evaluator 0 at step 1: kill",)
    assert pretrain.pretrain(spec(tmp_path, 1, faults=faults)).content == undisturbed
    log = commit_log.read(tmp_path / "pool" / "commits").to_pylist()
    assert {row["status"] for row in log} >= {"ok", "lost"}
