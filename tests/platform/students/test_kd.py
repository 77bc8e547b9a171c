"""From a spec to a run: every recipe goes together, wrong settings are one line, a stopped run goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from raystill.platform import cli
from raystill.platform.artifacts.files import Distilled, save_distilled
from raystill.platform.command_line import options
from raystill.platform.data import DataSet, load
from raystill.platform.learners import files
from raystill.platform.objectives import make
from raystill.platform.recipes import about, of, recipe
from raystill.platform.report.students import Results, gain, render, verdict
from raystill.platform.runs import folder as runs
from raystill.platform.spec import DataSpec
from raystill.platform.students import run
from raystill.platform.students.spec import KdSpec
from raystill.platform.students.stages import Bench, check, prepare
from raystill.platform.students.terms import Shared, objective

SMALL: dict[str, Any] = {"train": {"steps": 6, "batch_size": 8}, "data": {"limit": 40}, "run": {"seeds": 2}}
each = pytest.mark.parametrize("name", of("kd"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return load(DataSpec(cache=tmp_path_factory.mktemp("cache")))


@pytest.fixture
def bench(digits: DataSet, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("raystill.platform.students.stages.load", lambda spec, plugins: digits)
    return lambda changes: Bench(KdSpec.model_validate(options.merge({"run": {"device": "cpu"}}, changes)))


@each
def test_every_recipe_goes_together_and_is_a_few_lines_that_say_what_they_are(name: str, bench: Any) -> None:
    made = bench({**recipe(name), "recipe": name})
    check(made)
    assert 20 < len(about(name)) < 200
    assert len(of("kd")[name].read_text().splitlines()) <= 20
    last = list(made.spec.stages.values())[-1]
    assert last != list(made.spec.comparison.values())[-1]
    spec = made.spec
    fields = yaml.safe_load(runs.dump(spec, "kd"))
    assert fields.pop("command") == "kd"
    assert KdSpec.model_validate(fields) == spec


def test_the_issues_methods_all_have_a_recipe() -> None:
    asked = "hinton logits noisy takd fitnet ab few-data tf-kd-self tf-kd-reg label-smoothing mixup manifold-mixup " \
        "cutout cutmix augmix fixmatch mixmatch uda mean-teacher simclr moco cpc"  # fmt: skip
    assert {f"kd-{name}" for name in asked.split()} == set(of("kd"))
    assert not set(of("kd")) & set(of("distill"))


def test_student_and_baseline_start_alike_and_see_the_same_batches(bench: Any) -> None:
    made = bench({**recipe("kd-tf-kd-reg"), **SMALL})
    first = prepare(made, "student", made.spec.stages["student"], {}, 3)
    other = prepare(made, "baseline", made.spec.comparison["baseline"], {}, 3)
    assert first.address == other.address
    for a, b in zip(first.student.parameters(), other.student.parameters()):
        assert torch.equal(a, b)


def test_transfer_takes_what_it_says_anew_for_each_seed(bench: Any, digits: DataSet) -> None:
    made = bench({"transfer": {"limit": 60, "labels": 20, "without": [3]}})
    from raystill.platform.seeds import Address

    known, rest = made.rows(Address(0))
    y = digits.train.y
    assert (len(known), len(rest)) == (20, 40)
    assert 3 not in y[np.concatenate([known, rest])]
    assert len(set(y[known])) == 9
    assert not set(known) & set(rest)
    assert set(known) != set(made.rows(Address(1))[0])


def test_terms_weigh_the_means_of_their_own_samples() -> None:
    from raystill.platform.objectives import Out, Step

    z, v = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([1, 3, -1, -1, -1, -1, -1, -1])
    named = {
        "cross_entropy": {"only": "labelled"},
        "guess": {"kind": "mean_teacher", "only": "unlabelled", "weight": 5},
    }
    found = objective(named, shared=Shared(ratio=3))(Step(torch.zeros(8, 1), y, Out(z), Out(v))).mean()
    ce = torch.nn.functional.cross_entropy(z[:2], y[:2])
    guess = make("mean_teacher")(Step(torch.zeros(6, 1), y[2:], Out(z[2:]), Out(v[2:]))).mean()
    torch.testing.assert_close(found, ce + 5 * guess)


def test_temperature_and_alpha_reach_every_stage_that_has_them(bench: Any) -> None:
    made = bench({**recipe("kd-few-data"), **SMALL, "temperature": 2.0})
    term = prepare(made, "teacher", made.spec.stages["teacher"], {}, 0)
    ready = prepare(made, "student", made.spec.stages["student"], {"teacher": term.student}, 0)
    from raystill.platform.objectives import Out, Step

    z, v = torch.randn(2, 3, 10, generator=torch.Generator().manual_seed(0))

    def both(x: torch.Tensor) -> tuple[Out, Out]:
        return Out(z + 0 * x.sum()), Out(v + 0 * x.sum())

    step = Step(torch.zeros(3, 1), torch.zeros(3, dtype=torch.long), Out(z), Out(v), outputs=both)
    torch.testing.assert_close(ready.objective(step), make("kd", {"temperature": 2.0})(step))


def test_a_distilled_set_takes_the_place_of_the_images(bench: Any, tmp_path: Path) -> None:
    images = np.linspace(-1, 1, 2 * 5 * 64, dtype=np.float32).reshape(2, 5, 1, 8, 8)
    labels = np.arange(10).reshape(2, 5)
    rates = {"lr": np.full(2, 0.1, np.float32)}
    save_distilled(tmp_path / "set", Distilled(images, labels, rates, np.arange(2), None, {}))
    made = bench({"transfer": {"distilled": str(tmp_path / "set")}, **stages(), "train": {"epochs": 3}})
    check(made)
    ready = prepare(made, "baseline", made.spec.comparison["baseline"], {}, 0)
    assert ready.steps == 3
    x, y = ready.data.batch(np.arange(10))
    assert torch.equal(x, torch.from_numpy(images.reshape(10, 1, 8, 8)))
    assert torch.equal(y, torch.arange(10))


KD = {"teacher": {"frozen": {"of": "teacher"}}, "objective": {"kd": {}}}


def stages(**student: Any) -> dict[str, Any]:
    return {"stages": {"teacher": {"network": "teacher"}, "student": {**KD, **student}}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (stages(objective={"kd": {"temperature": 0}}), r"stages.student: objective.kd.temperature: 0 is not above 0"),
        (stages(objective={"hinton": {"alpha": 1.5}}), r"stages.student: objective.hinton.alpha: 1.5 is not between"),
        (stages(objective={"kdd": {}}), r"unknown 'kdd'; did you mean 'kd'"),
        (stages(objective={"kd": {"temprature": 1}}), r"no setting 'temprature'; did you mean 'temperature'"),
        (stages(objective={"kd": {"only": "known"}}), r"objective.kd.only: unknown 'known'"),
        (stages(objective={"kd": {"weight": {"rise": [1]}}}), r"objective.kd.weight: a number, or one of linear"),
        (stages(teacher={"frozne": {}}), r"teacher: unknown 'frozne'; did you mean 'frozen'"),
        (stages(teacher={"frozen": {}}), r"teacher.frozen: give `of`, a stage, or `file`"),
        (stages(teacher={"frozen": {"of": "teacher"}, "noisy": {"share": 2}}), r"teacher.noisy.share: 2"),
        (stages(teacher={}), r"teacher: the objective needs a teacher, and none was given"),
        (
            stages(cached=True, augmentations={"shift": {}}),
            r"cached: .* the augmentation shift draws anew at each step",
        ),
        (
            stages(cached=True, objective={"wasserstein": {"radius": 0.1, "inner": {"kd": {}}}}),
            r"cached: .* differentiates the teacher's answers",
        ),
        (
            stages(objective={"hint": {"student": "head.9", "teacher": "head.1"}}),
            r"stages.student: objective.student: _Flat has no module 'head.9'; did you mean 'head\.",
        ),
        (
            stages(objective={"hint": {"student": "head.1", "teacher": "haed.1"}}),
            r"stages.student: teacher.features: _Flat has no module 'haed.1'; did you mean 'head.1'",
        ),
        (
            {"stages": {"teacher": {"network": "teacher", "outputs": 7}, "student": KD}},
            r"stages.student: objective.kd: the teacher has 7 classes and the student 10",
        ),
        (
            {"transfer": {"labels": 20}, **stages(data="mixed", objective={"hinton": {}})},
            r"stages.student: objective: reads labels, and some samples have none; .* `only: labelled`",
        ),
        (
            stages(data="images", objective={"squared_error": {}}),
            r"stages.student: objective: reads labels, and some samples have none",
        ),
        (stages(data="mixed"), r"data: mixed needs unlabelled images, and all have their label; set transfer.labels"),
        ({"transfer": {"limit": 5}}, r"transfer.limit: 5 is not between the 10 classes and"),
        ({"temperature": 2.0}, r"temperature: no stage has hinton or kd"),
        ({"optimizer": {"name": "larss"}}, r"optimizer.name: unknown 'larss'; did you mean 'lars'"),
        ({"stages": {"student": {"outputs": 7}}}, r"stages: the last one has outputs of its own"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_trained(changes: dict[str, Any], says: str, bench: Any) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        check(bench(changes))
    assert "\n" not in str(caught.value)


def test_mixed_data_serve_an_objective_whose_labels_are_of_labelled_samples_alone(bench: Any) -> None:
    terms = {"cross_entropy": {"only": "labelled"}, "kd": {}}
    mixed = bench({"transfer": {"labels": 20}, **stages(data="mixed", objective=terms)})
    check(mixed)
    assert set(mixed.spec.stages["student"].objective) == set(terms)


def call(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    code = cli.main(["kd", *argv])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--temperature", "0"], "temperature: input should be greater than 0 (given: '0')"),
        (["--temperature", "-1"], "temperature: input should be greater than 0"),
        (["--alpha", "1.5"], "alpha: input should be less than or equal to 1"),
        (["--recipe", "kd-hintn"], "--recipe: unknown 'kd-hintn'; did you mean 'kd-hinton'?"),
        (["--recipe", "digits"], "--recipe: unknown 'digits'"),
        (
            ["--stages.student.cached", "true"],
            "unknown option --stages.student.cached: --stages takes a whole mapping; for a part give YAML by --config",
        ),
        (["--studnet.width", "3"], "unknown option --studnet.width; did you mean --student.width?"),
        (["--stages", '{"late": {"teacher": {"frozen": {"of": "never"}}}}'], "stages.late: no earlier stage 'never'"),
    ],
)
def test_a_wrong_option_is_exit_2_and_one_line(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, err = call(capsys, *argv)
    assert code == 2
    assert err.startswith(f"raystill kd: error: {says}")
    assert err.count("\n") == 1


def test_print_config_makes_the_same_spec_and_options_win(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--recipe", "kd-fitnet", "--student.width", "4", "--stages", '{"student": {"epochs": 2}}']
    spec, _ = options.load(KdSpec, "kd", "", argv)
    assert spec.stages["student"].epochs == 2
    assert spec.stages["student"].start == "hint"
    with pytest.raises(SystemExit):
        options.load(KdSpec, "kd", "", [*argv, "--print-config"])
    (tmp_path / "run.yaml").write_text(capsys.readouterr().out)
    assert options.load(KdSpec, "kd", "", ["--config", str(tmp_path / "run.yaml")], default="kd-hinton")[0] == spec


def spec_in(folder: Path, name: str) -> KdSpec:
    chosen = options.merge(recipe("kd-hinton"), {**SMALL, "tracking": {"enabled": False}})
    place = {"out": folder, "name": name, "device": "cpu", "checkpoint_every": 2}
    return KdSpec.model_validate(options.merge(chosen, {"run": place, "recipe": "kd-hinton"}))


def networks(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.glob("networks/*/*.safetensors"))}


def test_a_run_is_resumed_to_the_same_bytes_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run.kd(spec_in(tmp_path, "whole"))
    calls = iter(range(1000))

    def stop(step: int, **figures: str) -> None:
        if next(calls) == 9:
            raise KeyboardInterrupt

    class Shown:
        def __enter__(self) -> Any:
            return stop

        def __exit__(self, *error: object) -> None:
            pass

    with monkeypatch.context() as patch:
        patch.setattr(run, "progress", lambda title, total: Shown())
        with pytest.raises(KeyboardInterrupt, match=r"stopped; go on with: raystill resume .*stopped"):
            run.kd(spec_in(tmp_path, "stopped"))
    assert networks(tmp_path / "stopped") != networks(whole)
    assert cli.main(["resume", str(tmp_path / "stopped")]) == 0
    assert networks(tmp_path / "stopped") == networks(whole)
    assert len(networks(whole)) == 6
    found = json.loads((whole / "results.json").read_text())
    assert [row["kind"] for row in found["rows"]] == ["stage", "student", "baseline"]
    again = json.loads((tmp_path / "stopped" / "results.json").read_text())
    assert [row["test"] for row in found["rows"]] == [row["test"] for row in again["rows"]]
    page = render(whole)
    assert page.count("<svg") == 3
    assert "raystill kd --config spec.yaml" in page
    (whole / "report.html").unlink()
    assert cli.main(["report", str(whole)]) == 0
    assert (whole / "report.html").read_text() == page
    assert runs.made_by(whole) == "kd"
    model, facts = files.load_network(whole / "networks" / "0" / "student.safetensors")
    assert facts["stage"] == "student"
    assert not model.training


def test_two_processes_do_not_work_on_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run.kd(spec_in(tmp_path, "mine"))
    with runs.locked(folder):  # as another process does: a lock is its open file's, not its process's
        assert cli.main(["resume", str(folder)]) == 2
    told = capsys.readouterr().err
    assert f"{folder} is being worked on by another process (pid {os.getpid()})" in told
    assert len(told.strip().splitlines()) == 1
    assert cli.main(["resume", str(folder)]) == 0


def results(student: tuple[float, ...], baseline: tuple[float, ...]) -> Results:
    rows = [
        {"name": kind, "kind": kind, "parameters": 1, "test": v, "test_mean": float(np.mean(v)), "test_std": 0.0}
        for kind, v in (("student", student), ("baseline", baseline))
    ]
    seeds = tuple(range(len(student)))
    return Results.model_validate({"split": "test", "test_images": 9, "seeds": seeds, "rows": rows})


@pytest.mark.parametrize(
    ("student", "baseline", "word", "says"),
    [
        ((90.0, 92.0), (88.0, 90.5), "ahead", "is ahead of"),
        ((88.0, 90.5), (90.0, 92.0), "behind", "is behind"),
        ((88.0, 92.0), (89.0, 90.0), "within", "can not be told apart"),
        ((99.0,), (10.0,), "within", "One seed can not tell them apart"),
    ],
)
def test_a_verdict_needs_more_than_the_spread_of_the_differences(
    student: tuple[float, ...], baseline: tuple[float, ...], word: str, says: str
) -> None:
    found = results(student, baseline)
    assert gain(found).word == word
    assert says in verdict(found)


def test_a_moved_cache_changes_nothing_and_another_spec_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run.kd(spec_in(tmp_path, "whole"))
    spec = spec_in(tmp_path, "stopped")
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"cache": tmp_path / "cache"})})
    step, steps = run._log, iter(range(1000))

    def stop(*about: Any) -> Any:
        log = step(*about)

        def one(*row: Any) -> None:
            log(*row)
            if next(steps) == 9:
                raise KeyboardInterrupt

        return one

    with monkeypatch.context() as patch:
        patch.setattr(run, "_log", stop)
        with pytest.raises(KeyboardInterrupt):
            run.kd(spec)
    folder = tmp_path / "stopped"
    (newest,) = sorted(folder.glob("checkpoints/*/step-*"))[-1:]
    saved = yaml.safe_load((folder / "spec.yaml").read_text())
    (folder / "spec.yaml").write_text(yaml.safe_dump(options.merge(saved, {"optimizer": {"lr": 0.5}}), sort_keys=False))
    with pytest.raises(ValueError, match=rf"{newest.parent} belongs to another training .*{newest.name}"):
        run.resume(folder)
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    moved = options.merge(saved, {"data": {"cache": str(tmp_path / "elsewhere")}})
    (folder / "spec.yaml").write_text(yaml.safe_dump(moved, sort_keys=False))
    run.resume(folder)
    assert networks(folder) == networks(whole)
