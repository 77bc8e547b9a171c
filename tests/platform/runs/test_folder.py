"""The run folder: made once, found again, never outside its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from raystill.platform.runs import folder as runs
from raystill.platform.spec import DistillSpec


def spec(out: Path, recipe: str | None = None, **run: Any) -> DistillSpec:
    return DistillSpec.model_validate({"recipe": recipe, "run": {"out": str(out), **run}, "inner": {"lr": 0.123}})


def test_a_run_keeps_the_spec_that_makes_it_again(tmp_path: Path) -> None:
    given = spec(tmp_path / "deep" / "runs", name="mine")
    folder = runs.create(given)
    assert folder == tmp_path / "deep" / "runs" / "mine"
    assert runs.load(folder) == given
    assert yaml.safe_load((folder / "spec.yaml").read_text()) == {"command": "distill", **given.dump()}


def test_runs_without_a_name_are_numbered_after_their_recipe(tmp_path: Path) -> None:
    assert [runs.create(spec(tmp_path, "digits")).name for _ in range(3)] == ["digits-1", "digits-2", "digits-3"]
    (tmp_path / "digits-7").mkdir()
    (tmp_path / "digits-x").mkdir()
    (tmp_path / "my-digits-99").mkdir()
    assert runs.create(spec(tmp_path, "digits")).name == "digits-8"
    assert runs.create(spec(tmp_path)).name == "run-1"


def test_a_number_that_another_start_took_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = [], Path.mkdir

    def racing(path: Path, *args: Any, **kwargs: Any) -> None:
        if path.name == "run-1" and not made:
            made.append(path)
            real(path)  # the other start is first
        real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", racing)
    assert runs.create(spec(tmp_path)).name == "run-2"
    assert not list((tmp_path / "run-1").iterdir())


def test_a_name_that_is_taken_is_refused_and_its_run_left_alone(tmp_path: Path) -> None:
    first = runs.create(spec(tmp_path, name="mine", seed=1))
    with pytest.raises(ValueError, match=r"run\.name: .*mine exists; .* raystill resume .*mine"):
        runs.create(spec(tmp_path, name="mine", seed=2))
    assert runs.load(first).run.seed == 1


def test_a_place_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"run\.out: .*file.* can not be written"):
            runs.create(spec(out, name="mine"))


def test_a_folder_that_is_no_run_is_refused_with_the_runs_beside_it(tmp_path: Path) -> None:
    runs.create(spec(tmp_path, name="one"))
    (tmp_path / "other").mkdir()
    for folder in (tmp_path / "other", tmp_path / "missing"):
        with pytest.raises(ValueError, match=r"is not a run: it has no spec\.yaml; runs beside it: one$"):
            runs.load(folder)
    with pytest.raises(ValueError, match=r"it has no spec\.yaml$"):
        runs.load(tmp_path / "no" / "where")


@pytest.mark.parametrize("command", ["distill", *runs.MAKERS])
def test_a_folder_says_which_command_made_it(tmp_path: Path, command: str) -> None:
    folder = runs.create(spec(tmp_path), command, "stem")
    assert folder.name == "stem-1"
    assert runs.made_by(folder) == command
    assert runs.load(folder) == spec(tmp_path)


@pytest.mark.parametrize("text", ["{}", "command: dance"])
def test_a_folder_of_no_command_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"spec\.yaml: command: .* makes no runs; valid: distill, pretrain, kd, "):
        runs.made_by(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("outer: {steps: [", r"spec\.yaml can not be read"),
        ("", r"spec\.yaml is not a spec"),
        ("outer: {stepz: 3}", r"spec\.yaml is not a spec: outer\.stepz: "),
    ],
)
def test_a_torn_or_foreign_spec_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        runs.load(tmp_path)
    assert "\n" not in str(caught.value)
