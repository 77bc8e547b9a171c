"""The temperature search in one process: files, choice, resume, tracking, and the user's mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from raystill.actors.record import commit_log
from raystill.platform import cli
from raystill.platform.data import load
from raystill.platform.recipes import of, recipe
from raystill.platform.runs import folder as runs
from raystill.platform.spec import DataSpec, LearnerSpec
from raystill.platform.students.spec import KdSpec
from raystill.search.temperature import run as temperature
from raystill.search.temperature import settings, teacher_file
from raystill.search.temperature.spec import TemperatureSpec

SHORT = {"steps": 27, "batch_size": 32, "lr": 0.02}


def spec(out: Path, **search: Any) -> TemperatureSpec:
    return TemperatureSpec.model_validate({
        "teacher": {"learner": {"name": "mlp", "width": 32}, "training": {"steps": 60}},
        "student": {"learner": {"name": "mlp", "depth": 1}, "widths": [4, 8], "training": SHORT},
        "search": {"method": "grid", "temperatures": [1, 4, 16], "alphas": [0.5, 1], "seeds": 2, "block": 4,
                   "assess": 2, **search},
        "run": {"workers": 0, "out": out, "name": "run"}, "tracking": {"enabled": False},
    })  # fmt: skip


def log_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [row for row in commit_log.read(folder / "commits").to_pylist() if row["kind"] == kind]


def test_a_grid_chooses_by_validation_tests_once_and_leaves_a_recipe(tmp_path: Path) -> None:
    result = temperature.search_temperature(spec(tmp_path))
    folder = tmp_path / "run"
    rows = settings.read(folder / temperature.ROWS)
    assert len(rows) == 2 * 3 * 2 * 2
    for chosen in result["selection"]["settings"]:
        own = [r for r in rows if r.width == chosen["width"]]
        means = {s: np.mean([r.accuracy for r in own if r.setting == s]) for s in {r.setting for r in own}}
        picked = settings.Setting(chosen["width"], chosen["temperature"], chosen["alpha"])
        assert means[picked] == max(means.values())
        assert chosen["mean"] == pytest.approx(100 * means[picked])
    assert [(r["name"], r["width"], r["n"]) for r in result["test"]["rows"]] == [
        ("chosen setting", 4, 2), ("labels alone", 4, 2), ("chosen setting", 8, 2), ("labels alone", 8, 2)]  # fmt: skip
    split = [json.loads(json.dumps(r["numbers"])) for r in log_of(folder, "students")]
    assert len(split) == 2 * 2 * 2 + 2  # widths x blocks x seeds, and one look at test data for each width
    body = yaml.safe_load((folder / "recipe-8.yaml").read_text())
    picked = result["selection"]["settings"][1]
    assert (body["temperature"], body["alpha"]) == (picked["temperature"], picked["alpha"])
    assert (body["recipe"], body["student"]["width"], body["teacher"]["width"]) == ("kd-hinton", 8, 32)
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_recipe_that_a_search_leaves_trains_with_its_choice(tmp_path: Path) -> None:
    made = spec(tmp_path, temperatures=[2, 8], alphas=[0.7, 1])
    made = made.model_copy(update={"student": made.student.model_copy(update={"widths": (8,)})})
    (chosen,) = temperature.search_temperature(made)["selection"]["settings"]
    words = ["--run.out", str(tmp_path / "kd"), "--run.name", "mine", "--run.seeds", "1", "--run.device", "cpu"]
    recipe_file = str(tmp_path / "run" / "recipe.yaml")
    assert cli.main(["kd", "--config", recipe_file, *words, "--tracking.enabled", "false"]) == 0
    folder = tmp_path / "kd" / "mine"
    trained = runs.load_as(KdSpec, folder)
    assert (trained.temperature, trained.alpha) == (chosen["temperature"], chosen["alpha"])
    assert (trained.student.width, trained.teacher.width, trained.train.steps) == (8, 32, SHORT["steps"])
    assert (trained.stages["teacher"].network, trained.stages["teacher"].steps) == ("teacher", 60)
    history = json.loads((folder / "networks" / "0" / "student.json").read_text())["history"]
    assert history[-1]["step"] == SHORT["steps"]
    rows = json.loads((folder / "results.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["teacher", "student", "baseline"]


def test_a_resume_trains_nothing_again_and_says_the_same(tmp_path: Path) -> None:
    first = temperature.search_temperature(spec(tmp_path, method="halving", rungs=2))
    folder = tmp_path / "run"
    before = {kind: len(log_of(folder, kind)) for kind in ("students", "teacher", "grade")}
    (folder / temperature.RESULT).unlink()
    again = temperature.resume(folder)
    assert {kind: len(log_of(folder, kind)) for kind in before} == before
    assert {**again, "seconds": 0} == {**first, "seconds": 0}


def test_halving_goes_on_with_the_best_third_and_chooses_among_those_that_were_trained_whole(tmp_path: Path) -> None:
    result = temperature.search_temperature(spec(tmp_path, method="halving", rungs=2))
    rows = settings.read(tmp_path / "run" / temperature.ROWS)
    assert {r.steps for r in rows} == {9, 27}
    for width in (4, 8):
        early = settings.ranked([r for r in rows if r.width == width], 9)
        late = {r.setting for r in rows if r.width == width and r.steps == 27}
        assert (len(early), late) == (6, set(early[:2]))
    assert all(s["n"] == 2 for s in result["selection"]["settings"])


def test_every_setting_is_a_child_of_one_run_and_a_resume_adds_none(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    made = spec(tmp_path, temperatures=[1, 4], alphas=[1])
    made = made.model_copy(update={"tracking": made.tracking.model_copy(update={"enabled": True, "uri": store})})
    temperature.search_temperature(made)
    temperature.resume(tmp_path / "run")
    client = MlflowClient(store)
    found = client.search_runs([client.get_experiment_by_name("raystill").experiment_id])
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {(c.data.params["width"], c.data.params["temperature"]) for c in children} == {
        ("4", "1.0"), ("4", "4.0"), ("8", "1.0"), ("8", "4.0")}  # fmt: skip
    assert {run.info.status for run in found} == {"FINISHED"}
    history = client.get_metric_history(children[0].info.run_id, "accuracy/27")
    assert sorted(metric.step for metric in history) == [0, 1]


def test_a_teacher_of_other_classes_or_images_is_refused(tmp_path: Path) -> None:
    data = load(DataSpec())
    logits = np.zeros((len(data.train), 10), np.float32)
    path = tmp_path / "teacher.safetensors"
    parts = {"logits": logits, "theta": np.zeros(3, np.float32)}
    teacher_file.write(path, parts, LearnerSpec(name="mlp"), 0.5, data)
    assert np.array_equal(teacher_file.read(path, data)[0]["logits"], logits)
    other = load(DataSpec(split_seed=3))
    with pytest.raises(ValueError, match=r"teacher.file.*other images"):
        teacher_file.read(path, other)
    fewer = type(data)(**{**data.__dict__, "classes": data.classes[:9]})
    with pytest.raises(ValueError, match=r"knows 10 classes.*has 9"):
        teacher_file.read(path, fewer)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="is not a teacher"):
        teacher_file.read(path, data)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--search.temperatures", "[0]"], "search.temperatures.0: input should be greater than 0"),
        (["--search.alphas", "[1.5]"], "search.alphas.0: input should be less than or equal to 1 (given: 1.5)\n"),
        (["--search.alphas", "[0.5,0.5]"], "search.alphas: the same value twice"),
        (["--student.learner.name", "mpl"], "student.learner.name"),
        (["--search.method", "tpe"], "student.widths: tpe searches one width"),
        (["--student.training.steps", "8"], "search.rungs: 3 rungs of eta 3"),
        (["--teacher.file", "nowhere"], "teacher.file: nowhere does not exist"),
        (["--search.mehtod", "grid"], "unknown option --search.mehtod; did you mean --search.method"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    base = ["--run.out", str(tmp_path), "--run.workers", "0", "--tracking.enabled", "false"]
    assert cli.main(["search", "temperature", *base, *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert not list(tmp_path.iterdir())


def test_an_unknown_search_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["search", "temprature"]) == 2
    assert "temperature" in capsys.readouterr().err
    assert cli.main(["search"]) == 0
    assert "temperature" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(of("search temperature")))
def test_recipes_are_specs_that_come_back_from_their_yaml(name: str) -> None:
    made = TemperatureSpec.model_validate({**recipe(name), "recipe": name})
    fields = yaml.safe_load(runs.dump(made, "search temperature"))
    assert fields.pop("command") == "search temperature"
    assert TemperatureSpec.model_validate(fields) == made
    assert made.lengths[-1] == made.student.training.steps


def test_blocks_are_of_equal_size_and_lose_nothing() -> None:
    from raystill.search.temperature.on_evaluators import cut

    pairs = [(float(t), 1.0) for t in range(1, 12)]
    parts = cut(pairs, 4)
    assert [len(p) for p in parts] in ([4, 3, 4], [4, 4, 3], [3, 4, 4])
    assert [pair for part in parts for pair in part] == pairs
