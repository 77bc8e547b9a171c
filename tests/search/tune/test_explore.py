"""What a population may change, and that what it changes stays in its domain; runs in generations."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from raystill.actors import items
from raystill.actors.drive import pipeline
from raystill.actors.server import checkpoints
from raystill.platform import cli
from raystill.platform.files.storage import Storage
from raystill.platform.runs import folder as runs
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec
from raystill.search.tune import generations
from raystill.search.tune.explore import CHANGED, INITIAL, Explorer, explored, interval
from raystill.search.tune.generations import lineage, population_row, run_of
from raystill.search.tune.space import domains

SPEC = DistillSpec.model_validate({"outer": {"steps": 90, "members": 4, "chunk": 2}, "validation": {"every": 10}})


def settings(*over: str, **changes: Any) -> dict[str, Any]:
    """Of a search by a population of four."""
    return {"over": list(over), "trials": 4, "scheduler": "pbt", "searcher": "random", "perturb": None, **changes}


RATE = "outer.lr=loguniform:1e-3:1e-1"


@pytest.mark.parametrize(
    ("steps", "judged", "asked", "found"),
    [(90, 10, None, 10), (400, 25, None, 50), (90, 10, 30, 30), (8, 2, None, 2), (1000, 25, None, 125)],
)
def test_interval(steps: int, judged: int, asked: int | None, found: int) -> None:
    told = {"outer": {"steps": steps}, "validation": {"every": judged}}
    assert interval(settings(RATE, perturb=asked), DistillSpec.model_validate(told)) == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            settings(RATE, "synthesizer.epochs=choice:1,2"),
            "synthesizer.epochs can not change while a population learns",
        ),
        (settings("learner.width=int:8:64"), r"learner.width can not change .* with --scheduler pbt: outer.lr, "),
        (settings("outer.steps=int:50:100"), "as initial values: inner.lr, inner.momentum"),
        (settings("inner.lr=uniform:0.1:1"), "inner.lr are initial values only; add a field that changes: outer.lr"),
        (settings("inner.momentum=choice:0.0,0.5", RATE), "inner.momentum: 0 leaves no momentum"),
        (settings("outer.members=int:2:8"), r"outer.members \(3\) must be a multiple of outer.chunk"),
        (settings(RATE, trials=1), "--trials: 1; a population has at least 2"),
        (settings(RATE, searcher="optuna"), "--searcher: a population starts at random values"),
        (settings(RATE, perturb=15), r"--perturb: 15; must be a multiple of validation.every \(10\)"),
        (settings(RATE, perturb=90), "--perturb: 90 of 90 outer steps leave no comparison"),
        (settings(RATE, perturb=0), "--perturb: 0; must be a multiple"),
        (settings(RATE, perturb=-10), "--perturb: -10; must be a multiple"),
    ],
)
def test_what_is_no_search_by_a_population_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        interval(given, SPEC)


def test_refusals_are_one_line_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["search", "tune", "--recipe", "digits", "--scheduler", "pbt"]
    for wrong in (["--over", "synthesizer.steps=int:1:4"], ["--over", RATE, "--searcher", "optuna"]):
        assert cli.main([*command, *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["search", "tune", "--recipe", "digits", "--over", RATE, "--perturb", "50"]) == 2
    assert "--perturb: is for --scheduler pbt alone" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_every_field_that_may_change_is_one_of_a_spec() -> None:
    told = DistillSpec().dump()
    for field in CHANGED + INITIAL:
        section, _, name = field.partition(".")
        assert name in told[section]


@pytest.mark.parametrize(
    ("kind", "values", "old"),
    [("loguniform", [1e-3, 1e-1], 0.09), ("uniform", [0.0, 0.9], 0.85), ("int", [1, 8], 1), ("int", [1, 8], 8)],
)
def test_numbers_stay_in_their_domain_and_move(kind: str, values: list[Any], old: float) -> None:
    found = [explored(kind, values, old, Address(0, step=n)) for n in range(400)]
    assert all(values[0] <= value <= values[1] for value in found)
    assert all(isinstance(value, int) == (kind == "int") for value in found)
    moved = {min(max(old * f, values[0]), values[1]) for f in (0.8, 1.2)}
    if kind == "int":
        moved = {min(max(old + d, 1), 8) for d in ((-1, 1) if old == 1 else (-2, 2))}
    share = sum(value in moved for value in found) / len(found)
    # three in four are moved; an integer that is drawn anew may be the same one
    assert share == pytest.approx(0.75 + (0.25 * len(moved) / 8 if kind == "int" else 0), abs=0.07)


def test_choices_move_to_a_neighbour() -> None:
    values = [16, 32, "cosine", 64]
    found = [explored("choice", values, 32, Address(1, step=n)) for n in range(400)]
    counts = [found.count(value) / 400 for value in values]
    assert counts == pytest.approx([0.4375, 0.0625, 0.4375, 0.0625], abs=0.07)


def test_draws_are_the_runs_own_and_go_on_after_a_kill(tmp_path: Path) -> None:
    found = domains([RATE, "inner.lr=uniform:0.1:1"], SPEC)
    old = {"outer.lr": 0.01, "inner.lr": 0.5}
    explorer = Explorer(found, INITIAL, 3, tmp_path)
    copy = pickle.loads(pickle.dumps(explorer))  # as Tune keeps it
    first = [explorer(old)["outer.lr"] for _ in range(6)]
    assert [copy(old)["outer.lr"] for _ in range(6)] == first
    assert len(set(first)) > 2
    assert all(explorer(old)["inner.lr"] == 0.5 for _ in range(6)), "the donor's, with its state"
    for n in range(6):
        (tmp_path / f"abc_0000-{n}").mkdir()
    again = Explorer(found, INITIAL, 3, tmp_path)(old)["outer.lr"]
    assert again == Explorer(found, INITIAL, 3, tmp_path)(old)["outer.lr"]
    assert again not in first[:3] or again in (0.008, 0.012)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A search's folder of runs."""
    (tmp_path / "trials").mkdir()
    return tmp_path / "trials"


def test_a_trial_that_takes_over_begins_a_generation_with_the_donors_state(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = DistillSpec.model_validate({
        "learner": {"name": "linear"}, "synthesizer": {"steps": 1, "epochs": 1, "start": "average"},
        "outer": {"steps": 6, "members": 1, "chunk": 1, "batch_size": 32},
        "validation": {"every": 2, "networks": 1, "images": 50},
        "run": {"out": home, "workers": 0, "device": "cpu"}, "tracking": {"enabled": False},
    })  # fmt: skip
    handed: list[dict[str, Any]] = []

    def run(trial: str, lr: float, given: dict[str, Any] | None) -> Path:
        values = {"outer.lr": lr}
        made, folder = run_of(home, trial, values, given, base, 2)

        def watch(step: int, accuracy: float, place: str | None) -> None:
            handed.append({"trial": trial, "run": folder.name, "step": step, "checkpoint": place, "values": values})

        pipeline.learn(made, folder, watch, 2)
        return folder

    assert run("a", 0.02, None) == home / "a"
    assert [told["step"] for told in handed] == [2, 4], "the last step is nobody's to take over"
    given = json.loads(json.dumps(handed[0]))
    folder = run("b", 0.05, given)
    assert folder == home / "b-1"
    (name, *_) = sorted(path.name for path in folder.glob("checkpoints/step-*"))
    taken, facts = checkpoints.read(Storage(folder / "checkpoints"), name)
    groups, _ = checkpoints.read(*checkpoints.locate(given["checkpoint"]))
    for group, arrays in groups.items():
        for key, array in arrays.items():
            assert taken[group][key].tobytes() == array.tobytes()
    assert facts["step"] == runs.load(folder).donor.step == 2
    assert facts["spec"] == runs.load(folder).identity
    assert [row["step"] for row in pipeline.history.rows(folder)] == [3, 4, 5, 6]
    told = lineage(home, "b-1")
    assert [(row["run"], row["from_step"], row["changed"]) for row in told] == [
        ("a", 0, {}), ("b-1", 2, {"outer.lr": [0.02, 0.05]}),
    ]  # fmt: skip

    row = population_row("member_b_1_outer_lr=0.05_2026", {"run": "b-1", "best": 50.0, "best_step": 4}, home)
    assert (row["run"], row["best_validation"], row["outer_steps"], row["lineage"]) == ("b-1", 50.0, 4, told)
    assert population_row("member_b_1_x", {"run": "a"}, home)["run"] == "b-1", "its last report is its donor's"

    assert run_of(home, "b", {"outer.lr": 0.05}, given, base, 2)[1] == folder, "the same once more is the same run"
    assert run_of(home, "b", {"outer.lr": 0.06}, given, base, 2)[1] == home / "b-2"
    assert run_of(home, "b", {"outer.lr": 0.06}, {**given, "trial": "b", "run": "b-1"}, base, 2)[1] == folder
    assert run_of(home, "a", {"outer.lr": 0.02}, None, base, 2)[1] == home / "a"
    monkeypatch.setattr(generations, "PATIENCE", 0.3)
    with runs.locked(folder), pytest.raises(ValueError, match="worked on by another process"):
        run_of(home, "b", {"outer.lr": 0.05}, given, base, 2)


def test_a_settled_step_is_scored_and_kept(home: Path) -> None:
    """What others take over is exactly the state whose accuracy was told."""
    base = SPEC.model_copy(update={"run": SPEC.run.model_copy(update={"workers": 0, "device": "cpu"})})
    base = DistillSpec.model_validate({
        **base.dump(), "learner": {"name": "linear"}, "tracking": {"enabled": False},
        "synthesizer": {"steps": 1, "epochs": 1, "start": "average"},
        "outer": {"steps": 4, "members": 1, "chunk": 1, "batch_size": 32},
        "validation": {"every": 2, "networks": 2, "images": 50},
    })  # fmt: skip
    seen = []
    made, folder = run_of(home, "a", {}, None, base, 2)
    pipeline.learn(made, folder, lambda step, accuracy, place: seen.append((step, accuracy, place)), 2)
    ((step, accuracy, place),) = seen
    assert place is not None
    _, facts = checkpoints.read(*checkpoints.locate(place))
    assert (step, facts["step"], facts["unscored"]) == (2, 2, [])
    (row,) = (row for row in pipeline.history.rows(folder) if row["step"] == 2)
    assert row["validation_accuracy"] == pytest.approx(accuracy)
    assert items.validation_items(made.spec, 2)[0].version == 2
