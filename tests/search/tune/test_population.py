"""A population in which a trial really takes over another's state, and which a stop in its midst does not harm."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.tune

from raystill.actors import Interrupted
from raystill.actors.drive.crew import Diverged
from raystill.actors.record import history
from raystill.actors.server import checkpoints
from raystill.platform.files.storage import Storage
from raystill.platform.runs import folder as runs
from raystill.platform.spec import DistillSpec
from raystill.search.tune import generations, placement
from raystill.search.tune.explore import Explorer
from raystill.search.tune.population import Population
from raystill.search.tune.run import resume, tune
from raystill.search.tune.tracking import TRIAL, TrialTracking

pytestmark = pytest.mark.ray
# rates of 1e-6 learn nothing: one of the two trials is sure to be the worse one, and never to get better by itself
OVER = ["outer.lr=loguniform:1e-3:1e-1", "inner.lr=choice:0.000001,0.5"]
SETTINGS = {"over": OVER, "trials": 2, "scheduler": "pbt", "searcher": "random", "time_budget": None, "perturb": 2}


def spec(out: Path, store: str) -> DistillSpec:
    """Six steps, compared at the second and the fourth."""
    return DistillSpec.model_validate({
        "learner": {"name": "linear"}, "synthesizer": {"steps": 1, "epochs": 1, "start": "average"},
        "outer": {"steps": 6, "members": 1, "chunk": 1, "batch_size": 32, "rate_lr": 1e-6},
        "validation": {"every": 2, "networks": 1, "images": 100},
        "run": {"out": out / "runs", "workers": 0, "device": "cpu", "seed": SEED}, "tracking": {"uri": store},
    })  # fmt: skip


SEED = 0


def abandon() -> None:
    """End what the stopped search has in the cluster, as the end of its process would."""
    from ray.util.placement_group import PlacementGroup

    for key, told in ray.util.placement_group_table().items():
        if told["state"] != "REMOVED":
            ray.util.remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(key))))


def test_the_first_exchange_waits_until_all_were_judged(tmp_path: Path) -> None:
    """Trials that take turns must not replace one another before the others have begun."""
    scheduler = Population(3, 2, Explorer({}, (), 0, tmp_path))

    class Trial:
        def __init__(self, name: str) -> None:
            self.name = name

        def is_finished(self) -> bool:
            return False

    def judged(*scores: float | None) -> tuple[list[str], list[str]]:
        states = {Trial(name): SimpleNamespace(last_score=score) for name, score in zip("abc", scores)}
        scheduler._trial_state = states
        worst, best = scheduler._quantiles()
        return [trial.name for trial in worst], [trial.name for trial in best]

    assert judged(10.0, 20.0, None) == ([], [])
    assert judged(10.0, 20.0, 15.0) == (["a"], ["b"])


def test_a_diverged_trial_is_the_worst_until_it_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[dict[str, Any]] = []
    monkeypatch.setattr(ray.tune, "report", lambda metrics, checkpoint=None: reports.append(metrics))
    monkeypatch.setattr(ray.tune, "get_checkpoint", lambda: None)
    monkeypatch.setattr(ray.tune, "get_context", lambda: SimpleNamespace(get_trial_id=lambda: "t_0"))
    monkeypatch.setattr(generations, "TURNS", 2)
    monkeypatch.setattr(generations.time, "sleep", lambda seconds: None)
    base = spec(tmp_path, "sqlite:///none.db").dump()
    base |= {"tracking": {"enabled": False}}
    base["outer"]["diverged"] = 1e-9  # any loss is above
    with pytest.raises(Diverged):
        generations.member({"outer.lr": 0.01}, base, str(tmp_path), {}, 2)
    assert [(row["validation"], row["clock"], row["diverged"]) for row in reports] == [(0.0, 2, 1), (0.0, 4, 1)]


def test_a_trial_takes_over_anothers_state_and_a_stop_loses_none(
    tmp_path: Path, ray_cluster: None, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One trial at a time has room, so they take turns; the search is stopped when the first has begun a generation."""
    from mlflow import MlflowClient

    monkeypatch.setattr(placement, "bundles", lambda spec: [{"CPU": 3.0}])
    keep = TrialTracking.on_trial_result

    def stop(self: TrialTracking, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        keep(self, iteration, trials, trial, result, **info)
        if result.get("generation", 0) > 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrialTracking, "on_trial_result", stop)
        with pytest.raises(Interrupted, match="go on with: raystill resume"):
            tune(spec(tmp_path, store), SETTINGS)
    abandon()
    (folder,) = (tmp_path / "runs").iterdir()
    found = resume(folder)

    assert len(found["trials"]) == 2
    assert not found["failed"]
    home = folder / "trials"
    (row, *_) = (row for row in found["trials"] if len(row["lineage"]) > 1)
    founder, heir = row["lineage"][-2:]
    assert heir["run"] == row["run"] != founder["run"]
    assert heir["trial"] != founder["trial"]
    assert heir["from_step"] in (2, 4)
    assert row["step"] == 6
    told = json.loads((home / row["run"] / "lineage.json").read_text())
    assert told["donor"]["trial"] == founder["trial"]
    assert set(heir["changed"]) == {"outer.lr"}, "what the state began at goes with it"

    # the state is the donor's, bit for bit, and the steps go on from there
    store_of_heir = Storage(home / row["run"] / "checkpoints")
    (name, *_) = sorted(n for n in store_of_heir.folders() if n.startswith(f"step-{heir['from_step']:08d}"))
    taken, facts = checkpoints.read(store_of_heir, name, runs.load(home / row["run"]).identity)
    given, _ = checkpoints.read(*checkpoints.locate(told["donor"]["checkpoint"]))
    assert facts["step"] == heir["from_step"]
    for group in ("meta", "memory-first", "memory-second", "average", "best"):
        for key, array in given[group].items():
            assert taken[group][key].tobytes() == array.tobytes(), (group, key)
    assert [r["step"] for r in history.rows(home / row["run"])] == list(range(heir["from_step"] + 1, 7))

    # the choice is by the last state of each, and the winner is of the rate that learns
    last = {r["trial"]: history.rows(home / r["run"])[-1]["validation_accuracy"] for r in found["trials"]}
    assert {r["trial"]: r["validation"] for r in found["trials"]} == pytest.approx(last)
    assert found["best"]["validation"] == max(last.values())
    assert found["best"]["values"]["inner.lr"] == 0.5
    for r in found["trials"]:
        assert runs.load(home / r["run"]).outer.lr == r["values"]["outer.lr"]

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("raystill")
    assert experiment is not None
    tracked = client.search_runs([experiment.experiment_id])
    children = {run.data.tags[TRIAL]: run for run in tracked if TRIAL in run.data.tags}
    assert len(tracked) == 3 == 1 + len(children)
    assert {run.info.status for run in tracked} == {"FINISHED"}
    of_heir = children[heir["trial"]].data.metrics
    assert of_heir["generation"] >= 1
    assert of_heir["best_validation"] == pytest.approx(row["best_validation"])
    assert of_heir["validation"] == pytest.approx(row["validation"])
