"""The poisoning objective, and objectives as a spec's text names them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from raystill.actors.drive.plan import make_plan
from raystill.platform.objectives import Out, Step, make, of_labels, soft
from raystill.platform.seeds import Address, torch_rng
from raystill.platform.spec import DistillSpec

Z = torch.randn(12, 5, generator=torch_rng(Address(0, stream="z")), dtype=torch.float64)
Y = torch.arange(12) % 5


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_it_is_torchs_cross_entropy_with_one_class_renamed_and_weighted(weight: float) -> None:
    found = make("poison", {"victim": 2, "target": 4, "weight": weight})(Step(Z, Y, Out(Z)))
    renamed, factor = Y.clone(), torch.ones(12, dtype=torch.float64)
    renamed[Y == 2], factor[Y == 2] = 4, weight
    torch.testing.assert_close(found, factor * F.cross_entropy(Z, renamed, reduction="none"))
    rows = make("poison", {"victim": 2, "target": 4, "weight": weight})(Step(Z, soft(Y, 5).double(), Out(Z)))
    torch.testing.assert_close(rows, found)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"victim": 3, "target": 3}, "victim and target are both class 3"),
        ({"victim": -1, "target": 3}, r"poison\.victim: -1 is not the number of a class"),
        ({"victim": "cat", "target": 3}, r"poison\.victim: 'cat' is not the number of a class"),
        ({"victim": 1}, r"objective\.poison: needs target"),
        ({"victim": 1, "target": 2, "weight": 0.0}, r"poison\.weight: 0 is not above 0"),
    ],
)
def test_an_attack_that_is_none_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make("poison", settings)


def test_a_text_names_an_objective_with_its_settings() -> None:
    step = Step(Z, Y, Out(Z))
    for text, expected in [
        ("cross_entropy", make("cross_entropy")),
        ("cross_entropy()", make("cross_entropy")),
        ("cross_entropy(smoothing=0.1)", make("label_smoothing")),
        (" poison( victim = 2 , target = 4 ) ", make("poison", {"victim": 2, "target": 4})),
    ]:
        assert torch.equal(of_labels(text)(step), expected(step)), text
    own = {"objectives": {"mine": lambda step: step.student.logits[:, 0]}}
    assert torch.equal(of_labels("mine", own)(step), Z[:, 0])
    assert of_labels("poison(victim=2, target=4)").facts.relabels == ((2, 4),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cros_entropy", r"outer\.objective: unknown 'cros_entropy'; did you mean 'cross_entropy'"),
        ("poisn(victim=1, target=2)", r"outer\.objective: .*unknown 'poisn'; did you mean 'poison'"),
        ("poison(victim=1, tarjet=2)", r"outer\.objective: .*no setting 'tarjet'; did you mean 'target'"),
        ("poison(1, 2)", r"outer\.objective: '1' is no setting; write poison\(setting=value\)"),
        ("attack", r"unknown 'attack'; valid: .*poison"),
        ("poison", r"outer\.objective: objective\.poison: needs victim, target"),
        ("kd(temperature=2)", r"outer\.objective: kd needs more than labels"),
    ],
)
def test_a_text_that_names_none_is_one_clear_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        of_labels(text, None, "outer.objective")
    assert "\n" not in str(error.value)


def test_an_attack_on_an_absent_class_is_refused_before_work_starts() -> None:
    spec = {"outer": {"objective": "poison(victim=10, target=1)"}, "learner": {"name": "linear"},
            "run": {"workers": 0}, "tracking": {"enabled": False}}  # fmt: skip
    with pytest.raises(ValueError, match=r"outer\.objective: class 10 is absent; digits has the classes 0 to 9"):
        make_plan(DistillSpec.model_validate(spec))
