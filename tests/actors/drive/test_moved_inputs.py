"""What a run depends on is known by its content: where it lies changes nothing, and another content is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from raystill.actors.drive import coordinator, pipeline
from raystill.actors.record import commit_log
from raystill.platform import learners
from raystill.platform.artifacts import load_distilled
from raystill.platform.data import load
from raystill.platform.learners import files
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec, LearnerSpec


def spec(out: Path, name: str, **changes: Any) -> DistillSpec:
    sections = {
        "data": {"limit": 200, "cache": out / "cache"},
        "learner": {"name": "linear"},
        "synthesizer": {"steps": 1, "epochs": 2, "start": "average"},
        "outer": {"steps": 4, "members": 1, "chunk": 1, "batch_size": 32},
        "validation": {"every": 2, "networks": 1, "images": 30},
        "assess": {"networks": 2, "baselines": True, "candidates": 2},
        "run": {"out": out, "name": name, "workers": 0, "checkpoint_every": 2},
        "tracking": {"enabled": False},
    }
    return DistillSpec.model_validate({**sections, **changes})


def change(run: Path, section: str, **fields: Any) -> None:
    saved = yaml.safe_load((run / "spec.yaml").read_text())
    saved[section] |= fields
    (run / "spec.yaml").write_text(yaml.safe_dump(saved))


class Stop(Exception):
    """Ends a run in its middle."""


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that ended after its third step, with a checkpoint of the second."""
    record = coordinator._record

    def die(loop: coordinator.Loop, *rest: Any) -> None:
        record(loop, *rest)
        if loop.step == 3:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(coordinator, "_record", die)
        with pytest.raises(Stop):
            pipeline.distill(spec(tmp_path, "stopped"))
    return tmp_path / "stopped"


def test_a_run_whose_cache_and_root_moved_goes_on_from_its_checkpoint(stopped: Path, tmp_path: Path) -> None:
    whole = pipeline.distill(spec(tmp_path, "whole"))
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    change(stopped, "data", cache=str(tmp_path / "elsewhere"), root=str(tmp_path / "data"))
    pipeline.resume(stopped)
    assert load_distilled(stopped / "artefact").images.tobytes() == whole.images.tobytes()
    log = commit_log.read(stopped / "commits").to_pylist()
    assert Counter(row["step"] for row in log if row["kind"] == "apply") == {0: 1, 1: 1, 2: 2, 3: 1}


def test_checkpoints_of_another_spec_are_named_and_nothing_is_computed(stopped: Path) -> None:
    change(stopped, "outer", lr=0.5)
    rows = commit_log.read(stopped / "commits").num_rows
    message = r"stopped/checkpoints: holds checkpoints of a run with another spec .*step-00000002"
    with pytest.raises(ValueError, match=message):
        pipeline.resume(stopped)
    assert commit_log.read(stopped / "commits").num_rows == rows


def test_other_data_than_a_run_began_with_are_refused(stopped: Path) -> None:
    change(stopped, "data", limit=150)
    with pytest.raises(ValueError, match=r"data\.source: digits is not the data that this run began with"):
        pipeline.resume(stopped)


@pytest.mark.parametrize("objective", ["kd", "hinton", "logit_matching"])
def test_a_run_with_an_outer_teacher_is_assessed_and_reported(tmp_path: Path, objective: str) -> None:
    data, network = load(spec(tmp_path, "none").data), LearnerSpec(name="mlp", width=12, depth=1)
    learner = learners.build(network, data.shape, 10)
    learner.load(learner.init(Address(9)))
    path = tmp_path / "teacher.safetensors"
    files.save_network(path, learner.module, network, data.shape, 10, mean=list(data.mean), std=list(data.std))
    outer = {"steps": 2, "members": 1, "chunk": 1, "batch_size": 32, "objective": objective, "teacher": path}
    pipeline.distill(spec(tmp_path, "taught", outer=outer))
    assert (tmp_path / "taught" / "report.html").is_file()
    rows = json.loads((tmp_path / "taught" / "assessment.json").read_text())["rows"]
    assert {row["kind"] for row in rows} == {"distilled", "baseline", "reference", "robustness"}
