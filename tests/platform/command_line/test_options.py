"""From a command line to a spec: precedence, and one readable line for each mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from raystill.platform.command_line import options
from raystill.platform.recipes import about, of, recipe
from raystill.platform.runs import folder
from raystill.platform.spec import DistillSpec


def load(*argv: str, **more: Any) -> DistillSpec:
    return options.load(DistillSpec, "distill", "text", list(argv), **more)[0]


@pytest.fixture
def config(tmp_path: Path) -> Any:
    def write(text: str | dict[str, Any]) -> str:
        path = tmp_path / "run.yaml"
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        return str(path)

    return write


def test_nothing_given_is_the_default_recipe_or_the_defaults() -> None:
    assert load() == DistillSpec()
    assert load(default="digits") == DistillSpec.model_validate({**recipe("digits"), "recipe": "digits"})


def test_options_win_over_the_file_and_the_file_over_the_recipe(config: Any) -> None:
    theirs = DistillSpec.model_validate(recipe("mnist-random-100"))
    path = config({"inner": {"lr": 0.5, "momentum": 0.25}, "outer": {"steps": 7}})
    spec = load("--recipe", "mnist-random-100", "--config", path, "--inner.lr", "0.75", "--run.seed=3")
    assert (spec.recipe, spec.learner, spec.synthesizer) == ("mnist-random-100", theirs.learner, theirs.synthesizer)
    assert (spec.inner.lr, spec.inner.momentum, spec.outer.steps, spec.run.seed) == (0.75, 0.25, 7, 3)
    assert spec.inner.learn_momentum == theirs.inner.learn_momentum
    assert spec.outer.members == theirs.outer.members


def test_a_file_takes_the_place_of_the_default_recipe(config: Any) -> None:
    given = {"run": {"seed": 9}}
    assert load("--config", config(given), default="digits") == DistillSpec.model_validate(given)


def test_a_recipe_that_the_file_names_lies_under_the_file(config: Any) -> None:
    path = config({"recipe": "mnist-fixed-10", "outer": {"steps": 7}})
    spec = load("--config", path, default="digits")
    assert spec == load("--recipe", "mnist-fixed-10", "--outer.steps", "7")
    assert load("--recipe", "mnist-fixed-10", "--config", path) == spec
    with pytest.raises(ValueError, match="--recipe digits and the recipe mnist-fixed-10 of --config contradict"):
        load("--recipe", "digits", "--config", path)


def test_an_empty_file_is_no_change(config: Any) -> None:
    assert load("--config", config("")) == DistillSpec()


def test_values_are_read_by_their_type() -> None:
    spec = load(
        "--outer.clip", "none", "--run.name", "007", "--data.download", "true", "--assess.architectures", "mlp,convnet"
    )
    assert spec.outer.clip is None
    assert spec.run.name == "007"
    assert spec.data.download is True
    assert spec.assess.architectures == ("mlp", "convnet")
    assert load("--recipe", "cifar10-random-100-full").synthesizer.augment == ("flip", "shift", "colour")
    assert load("--recipe", "cifar10-random-100-full", "--synthesizer.augment", "none").synthesizer.augment == ()


def test_no_field_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RECIPE", "RUN__SEED", "RUN", "DATA"):
        monkeypatch.setenv(name, "5")
    assert load() == DistillSpec()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--learner.nmae", "mlp"], r"unknown option --learner\.nmae; did you mean --learner\.name"),
        (["--outer.step=5"], r"unknown option --outer\.step; did you mean --outer\.steps"),
        (["--zzzzzzzz", "1"], r"unknown option --zzzzzzzz$"),
        (["stray"], "unknown option stray$"),
        (["--recipe", "mnist-fixed10"], "--recipe: unknown 'mnist-fixed10'; did you mean 'mnist-fixed-10'"),
        (["--recipe=nope"], "--recipe: unknown 'nope'; valid: "),
        (["--recipe"], "--recipe: expected one argument"),
        (["--outer.steps", "many"], r"outer\.steps: input should be a valid integer.*\(given: 'many'\)"),
        (["--outer.steps", "0"], r"outer\.steps: input should be greater than or equal to 1 \(given: '?0'?\)"),
        (["--learner.init", "glorot"], "learner.init: invalid choice: 'glorot' .choose from .*xavier"),
        (["--outer.members", "3"], r"^outer\.members \(3\) must be a multiple of outer\.chunk \(2\)$"),
        (["--run.name", "../x"], r"^run\.name '\.\./x' must be"),
        (["--config", "/no/such.yaml"], r"--config: /no/such\.yaml can not be read: No such file"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(argv: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load(*argv)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learner: {nmae: mlp}", r"learner\.nmae: unknown key; did you mean learner\.name"),
        ("lerner: {name: mlp}", r"lerner: unknown key"),
        ("outer: {steps: 0}", r"outer\.steps: input should be greater"),
        ("outer: {members: 4, chunk: 3}", r"outer\.members \(4\) must be a multiple"),
        ("run: {name: /abs}", "run.name '/abs' must be"),
        ("recipe: ../../elsewhere", "--config: unknown recipe '../../elsewhere'; valid: "),
        ("recipe: [digits]", "--config: unknown recipe .'digits'.;"),
        ("outer: 5", "outer: input should be a valid"),
        ("command: search nas", "is for `raystill search nas`, and this is `raystill distill`"),
        ("- 1\n- 2", "holds no mapping of sections"),
        ("a: [1", "is not YAML"),
        ("a: \x00", "is not YAML"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_names_it(config: Any, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load("--config", config(text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not YAML"):
        load("--config", str(path))


@pytest.mark.parametrize("name", of("distill"))
def test_every_recipe_is_a_spec_that_says_what_it_is_and_shares_its_steps(name: str) -> None:
    spec = load("--recipe", name)
    assert spec.recipe == name
    assert 20 < len(about(name)) < 200
    assert "#" not in about(name)
    assert spec.outer.members // spec.outer.chunk >= 2  # two evaluators share each step
    fields = yaml.safe_load(folder.dump(spec))
    assert fields.pop("command") == "distill"
    assert DistillSpec.model_validate(fields) == spec


@pytest.mark.parametrize("name", of("distill"))
def test_what_print_config_prints_makes_the_same_spec(
    name: str, config: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--recipe", name, "--run.seed", "4", "--outer.clip", "none", "--data.root", "some/where"]
    with pytest.raises(SystemExit) as caught:
        load(*argv, "--print-config")
    assert caught.value.code == 0
    assert load("--config", config(capsys.readouterr().out), default="digits") == load(*argv)


def test_help_names_every_field_with_its_default_and_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load("--help")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for section, field in DistillSpec.model_fields.items():
        for name in getattr(field.annotation, "model_fields", {}):
            assert f"--{section}.{name}" in text
    assert "first value of the inner learning rates (default: 0.02)" in text
    assert "{constant,decay,cosine}" in text


def test_merge_goes_leaf_by_leaf_and_changes_neither() -> None:
    a, b = {"x": {"p": 1, "q": {"r": 1}}, "y": 1}, {"x": {"q": {"s": 2}}, "y": {"z": 1}}
    assert options.merge(a, b) == {"x": {"p": 1, "q": {"r": 1, "s": 2}}, "y": {"z": 1}}
    assert a == {"x": {"p": 1, "q": {"r": 1}}, "y": 1}
    assert b == {"x": {"q": {"s": 2}}, "y": {"z": 1}}


def test_none_is_a_word_where_it_is_a_choice(config: Any) -> None:
    spec = load("--synthesizer.curriculum", "none", "--learner.draw", "none")
    assert (spec.synthesizer.curriculum, spec.learner.draw) == ("none", "none")
    assert load("--config", config({"synthesizer": {"curriculum": "none"}})).synthesizer.curriculum == "none"
