"""A run as a user has it: moved, looked at from elsewhere, and made of parts of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raystill.actors.drive import artefact, coordinator, pipeline
from raystill.platform.artifacts.files import load_distilled
from raystill.platform.runs import folder
from raystill.platform.spec import DistillSpec


def spec(out: Path, **changes: Any) -> DistillSpec:
    return DistillSpec.model_validate(
        {
            "data": {"limit": 200},
            "learner": {"name": "linear"},
            "synthesizer": {"steps": 1, "epochs": 2, "start": "average"},
            "outer": {"steps": 4, "members": 1, "chunk": 1, "batch_size": 32},
            "validation": {"every": 2, "networks": 1, "images": 30},
            "assess": {"networks": 2, "baselines": False},
            "run": {"out": out, "workers": 0, "checkpoint_every": 2},
            "tracking": {"enabled": False},
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ({"name": "macro:d1-w4-x1-k3-max-none-relu-gap"}, "learner.draw: widths, but at width 4: .*has its own width"),
        ({"name": "linear"}, "learner.draw: widths, but linear is the same at any"),
    ],
)
def test_widths_of_a_learner_that_has_none_are_refused_before_work_starts(
    tmp_path: Path, learner: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline.make_plan(spec(tmp_path, learner={**learner, "draw": "widths"}))
    assert pipeline.make_plan(spec(tmp_path, learner={"name": "mlp", "draw": "widths"})).spec.learner.draw == "widths"


class Stop(Exception):
    """Ends a run in its middle."""


def test_a_moved_run_resumes_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    away.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    keep = artefact.keep

    def stop(*_: object) -> None:
        raise Stop

    monkeypatch.setattr(artefact, "keep", stop)
    with pytest.raises(Stop):
        pipeline.distill(spec(Path("here"), tracking={"enabled": True}))
    monkeypatch.setattr(artefact, "keep", keep)
    (home / "here" / "run-1").rename(away / "moved")
    (home / "here").rmdir()
    monkeypatch.chdir(tmp_path)
    pipeline.resume(Path("away") / "moved")
    assert (away / "moved" / "report.html").is_file()
    assert not (tmp_path / "mlflow.db").exists(), "tracked in a second store"
    assert folder.load(away / "moved").tracking.uri == f"sqlite:///{home / 'mlflow.db'}"


def test_a_store_that_the_environment_names_is_not_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'secret.db'}")
    made = pipeline.make_plan(spec(tmp_path, tracking={"enabled": True}))
    assert made.spec.tracking.uri is None


def test_a_network_learns_with_the_objective_that_its_data_was_distilled_with(tmp_path: Path) -> None:
    def doubled(step: Any) -> torch.Tensor:
        return 2 * torch.nn.functional.cross_entropy(step.student.logits, step.y, reduction="none")

    own = {"objectives": {"doubled": doubled}}
    pipeline.distill(spec(tmp_path, inner={"objective": "doubled", "lr": 0.1}), own)
    distilled = load_distilled(tmp_path / "run-1" / "artefact")
    one = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    two = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    two.load_state_dict(one.state_dict())
    distilled.train(one, own)
    for t, s in enumerate(distilled.order):
        x, y = torch.tensor(distilled.images[s]), torch.tensor(distilled.labels[s])
        gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(two(x), y), list(two.parameters()))
        with torch.no_grad():
            for p, g in zip(two.parameters(), gradients):
                p -= 2 * float(distilled.rates["lr"][t]) * g
    np.testing.assert_allclose(one[1].weight.detach(), two[1].weight.detach(), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="doubled"):
        distilled.train(one)


def test_a_run_goes_on_while_its_store_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    store.mkdir()
    uri = f"sqlite:///{store / 'mlflow.db'}"
    record = coordinator._record

    def die(loop: coordinator.Loop, *rest: Any) -> None:
        record(loop, *rest)
        if loop.step == 3:
            raise Stop

    monkeypatch.setattr(coordinator, "_record", die)
    with pytest.raises(Stop):
        pipeline.distill(spec(tmp_path, tracking={"enabled": True, "uri": uri}))
    monkeypatch.setattr(coordinator, "_record", record)
    store.rename(tmp_path / "away")
    keep = artefact.keep

    def back(*rest: Any) -> None:
        (tmp_path / "away").rename(store)
        keep(*rest)

    monkeypatch.setattr(artefact, "keep", back)
    pipeline.resume(tmp_path / "run-1")
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("raystill").experiment_id])
    assert run.info.status == "FINISHED"
    assert sorted(m.step for m in client.get_metric_history(run.info.run_id, "meta_loss")) == [1, 2, 3, 4]


def test_a_run_that_its_store_does_not_know_any_more_is_refused(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    pipeline.distill(spec(tmp_path, tracking={"enabled": True, "uri": uri}))
    (tmp_path / "run-1" / "tracking.json").write_text('{"run_id": "0123456789abcdef0123456789abcdef"}')
    with pytest.raises(ValueError, match="not found"):
        pipeline.resume(tmp_path / "run-1")
