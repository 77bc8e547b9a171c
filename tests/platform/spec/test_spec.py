"""What a spec refuses, and that it is what it says."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from raystill.platform.spec import DistillSpec, RunSpec, experiment

PARTS = [part for part in vars(experiment).values() if isinstance(part, type) and issubclass(part, experiment.Part)]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_part_is_frozen_closed_and_explains_each_field(part: type[BaseModel]) -> None:
    assert part.__doc__
    made = part()
    for name, field in part.model_fields.items():
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, experiment.Part)
        assert is_section or field.description, f"{part.__name__}.{name} has no description"
        with pytest.raises(ValidationError, match="frozen"):
            setattr(made, name, getattr(made, name))
    with pytest.raises(ValidationError, match="Extra inputs"):
        part(no_such_key=1)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("data", "validation", 1.0),
        ("data", "validation", -0.1),
        ("data", "limit", 0),
        ("learner", "gain", 0.0),
        ("learner", "init", "glorot"),
        ("learner", "width", 0),
        ("synthesizer", "steps", 0),
        ("synthesizer", "epochs", 1.5),
        ("synthesizer", "labels", "fuzzy"),
        ("synthesizer", "noise", float("nan")),
        ("inner", "lr", 0.0),
        ("inner", "lr", float("inf")),
        ("inner", "momentum", 1.0),
        ("outer", "steps", "many"),
        ("outer", "beta2", 1.0),
        ("outer", "clip", -1.0),
        ("outer", "schedule", "linear"),
        ("meta", "window", 0),
        ("meta", "mode", "sideways"),
        ("assess", "architectures", "mlp"),
        ("run", "seed", -1),
        ("run", "workers", -1),
        ("run", "deadline", 0),
        ("run", "device", "tpu"),
        ("tracking", "enabled", "perhaps"),
    ],
)
def test_types_and_bounds_are_checked(section: str, field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        DistillSpec.model_validate({section: {field: value}})
    assert caught.value.errors()[0]["loc"][:2] == (section, field)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"synthesizer": {"images": 5, "per_class": 2}}, "synthesizer.images or synthesizer.per_class, not both"),
        ({"inner": {"learn_momentum": True}}, "learned momentum needs inner.momentum above 0"),
        ({"outer": {"members": 4, "chunk": 3}}, r"outer.members \(4\) must be a multiple of outer.chunk \(3\)"),
    ],
)
def test_fields_that_contradict_each_other_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DistillSpec.model_validate(given)


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/x", "../x", "a\\b", "", " a", "a\n", "-a", ".a", "a" * 65, "é"])
def test_names_of_folders_can_not_leave_their_folder(name: str) -> None:
    with pytest.raises(ValidationError, match=r"run\.name .* must be 1-64 of"):
        RunSpec(name=name)
    with pytest.raises(ValidationError, match=r"recipe .* must be 1-64 of"):
        DistillSpec(recipe=name)


@pytest.mark.parametrize("name", ["a", "007", "mnist-fixed-10", "A.b_c-1", "a..b", "a" * 64])
def test_plain_names_pass(name: str) -> None:
    assert RunSpec(name=name).name == name


def test_the_unroll_is_steps_times_epochs() -> None:
    assert DistillSpec.model_validate({"synthesizer": {"steps": 4, "epochs": 5}}).unroll == 20


def test_a_dump_is_json_and_makes_the_spec_again() -> None:
    spec = DistillSpec.model_validate(
        {"data": {"root": "somewhere"}, "outer": {"clip": None}, "assess": {"architectures": ["mlp", "lenet"]}}
    )
    assert DistillSpec.model_validate(json.loads(json.dumps(spec.dump()))) == spec


def test_the_defaults_are_a_valid_spec_with_two_chunks_a_step() -> None:
    spec = DistillSpec()
    assert spec.outer.members // spec.outer.chunk >= 2


def test_every_field_of_the_method_is_in_the_identity_at_its_usual_value_too() -> None:
    usual = DistillSpec.model_validate({"learner": {"draw": "macro"}})
    other = usual.model_copy(update={"learner": usual.learner.model_copy(update={"begun": 0.9})})
    assert other.identity != usual.identity
    fields = usual.dump()
    for aside in ("run", "tracking", "assess", "recipe"):
        del fields[aside]
    del fields["meta"]["memory"], fields["outer"]["shards"], fields["outer"]["teacher"]
    del fields["data"]["root"], fields["data"]["cache"], fields["data"]["download"]
    del fields["initialisation"]["path"], fields["donor"]["checkpoint"]
    text = json.dumps({**fields, "seed": usual.run.seed}, sort_keys=True)
    assert usual.identity == hashlib.sha256(text.encode()).hexdigest()
