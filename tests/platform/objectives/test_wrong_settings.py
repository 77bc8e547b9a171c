"""Wrong inputs: one clear line each."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from raystill.platform.objectives import (
    Facts,
    Out,
    Step,
    Term,
    linear,
    make,
    of_labels,
    ramp_up,
    regressor,
    soft,
    weighted,
)
from raystill.platform.seeds import Address

Z = torch.zeros(4, 3)
STEP = Step(Z, torch.zeros(4, dtype=torch.long), Out(Z), Out(Z))


def said(name: str, settings: dict[str, Any] | None = None, step: Step | None = None) -> str:
    """The message of what is raised, which is one line and names the objective."""
    with pytest.raises(ValueError, match=r"^objective\.?") as raised:
        make(name, settings)(step or STEP)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf, "4", True, None])
@pytest.mark.parametrize("name", ["kd", "hinton", "uda", "nt_xent", "info_nce"])
def test_a_temperature_is_a_number_above_zero(name: str, temperature: Any) -> None:
    found = said(name, {"temperature": temperature})
    assert found.startswith(f"objective.{name}.temperature: ")
    assert found.endswith(("is not above 0", "is not a number"))


def test_what_a_wrong_temperature_says() -> None:
    assert said("kd", {"temperature": -2}) == "objective.kd.temperature: -2 is not above 0"


@pytest.mark.parametrize("alpha", [-0.1, 1.1, 9, math.nan])
def test_shares_lie_between_0_and_1(alpha: float) -> None:
    for name, field in (
        ("hinton", "alpha"), ("hinton", "smoothing"), ("cross_entropy", "smoothing"), ("fixmatch", "threshold"),
        ("uda", "threshold"),
    ):  # fmt: skip
        found = said(name, {field: alpha})
        assert found.startswith(f"objective.{name}.{field}: ")
        assert found.endswith(("is not between 0 and 1", "is not a number"))
    if alpha == 9:
        assert said("hinton", {"alpha": 9}) == "objective.hinton.alpha: 9 is not between 0 and 1"


@pytest.mark.parametrize("name", ["kd", "hinton", "logit_matching", "fixmatch", "uda", "mean_teacher"])
def test_teacher_and_student_know_the_same_classes(name: str) -> None:
    found = said(name, step=STEP._replace(teacher=Out(torch.zeros(4, 7))))
    assert found.endswith("the teacher has 7 classes and the student 3")
    assert said(name, step=STEP._replace(teacher=None)).endswith("needs a teacher, and none was given")
    assert "(5, 3)" in said(name, step=STEP._replace(teacher=Out(torch.zeros(5, 3))))


def test_features_are_named_after_the_nearest_and_have_one_shape() -> None:
    maps = STEP._replace(student=Out(Z, {"layer1": Z, "head": Z}), teacher=Out(Z, {"layer3": torch.zeros(4, 5)}))
    pair = {"student": "layer2", "teacher": "layer3"}
    expected = "no feature 'layer2'; did you mean 'layer1'? valid: head, layer1"
    assert said("hint", pair, maps) == f"objective.hint.student: {expected}"
    assert "'layer1' has shape (3,) and the teacher's 'layer3' (5,)" in said(
        "hint", {**pair, "student": "layer1"}, maps
    )
    with pytest.raises(ValueError, match=r"none from \(3, 4, 4\) to \(3, 5, 5\)"):
        regressor((3, 4, 4), (3, 5, 5), Address(0))
    assert "margin: 0 is not above 0" in said("activation_boundary", {**pair, "margin": 0})


def test_a_regressor_with_batch_statistics_couples_samples_and_says_so() -> None:
    norm = make(
        "hint", {"student": "a", "teacher": "b", "regressor": nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))}
    )
    assert "BatchNorm" in norm.facts.couples


def test_the_ball_refuses_what_equation_2_does_not_mean() -> None:
    def ball(inner: Term, step: Step = STEP, radius: float = 0.1) -> str:
        return said("wasserstein", {"inner": inner, "radius": radius}, step)

    assert ball(make("kd"), radius=-1) == "objective.wasserstein.radius: -1 is not at least 0"
    assert "couples the samples" in ball(make("nt_xent"))
    assert "further views" in ball(make("jensen_shannon"))
    assert "cached logits do not serve" in ball(make("kd"))
    with torch.no_grad():
        cached = Out(Z + 1)
    assert "no_grad" in ball(make("kd"), STEP._replace(outputs=lambda x: (Out(x), cached)))

    def careless(x: torch.Tensor) -> tuple[Out, Out]:
        with torch.no_grad():
            return Out(x), Out(2 * x)

    assert "no_grad" in ball(make("kd"), STEP._replace(outputs=careless))


def test_views_and_queues_fit() -> None:
    assert said("nt_xent") == "objective.nt_xent: views of each sample beside it: needs 1, given 0"
    assert "other samples: (2, 3) beside (4, 3)" in said("cpc", step=STEP._replace(views=(Out(Z[:2]),)))
    assert "at least 1" in said("jensen_shannon", {"views": 0})
    assert "at least 1" in said("info_nce", {"queue": 1.5})
    narrow = STEP._replace(state={"queue": torch.zeros(8, 2)})
    assert said("info_nce", step=narrow) == "objective.info_nce.width: 2, and the student's embeddings have 3"
    assert "needs its queue" in said("info_nce")


def test_names_and_settings_that_there_are_not() -> None:
    assert "unknown 'fixmach'; did you mean 'fixmatch'?" in said("fixmach")
    assert said("kd", {"temprature": 3}) == "objective.kd: no setting 'temprature'; did you mean 'temperature'? " + (
        "valid: temperature"
    )
    assert said("hint") == "objective.hint: needs student, teacher"
    assert said("weighted") == "objective.weighted: needs at least one term"
    assert said("weighted", {"kd": (math.nan, make("kd"))}) == "objective.weighted.kd: nan is not a number"
    for wrong in (lambda: ramp_up(1.0, 0.0), lambda: linear(math.inf, 1.0)):
        with pytest.raises(ValueError, match=r"^objective\.weighted"):
            wrong()


def brier(step: Step, weight: float = 1.0) -> torch.Tensor:
    """weight * sum_k (softmax(z)_k - p_k)^2 (Brier 1950)."""
    p = step.student.logits.softmax(1)
    return weight * (p - soft(step.y, p.shape[1])).square().sum(1)


def scaled(by: float, shift: float = 0.0) -> Term:
    """An objective that is made from settings."""
    return Term(lambda step: by * step.student.logits[:, 0] + shift, Facts(relabels=((1, 2),)))


OWN = {
    "objectives": {"brier": brier, "scaled": scaled, "ready": scaled(2.0), "kd": lambda step: step.student.logits[:, 1]}
}


def test_ones_own_objective_is_a_function_of_a_step_or_one_that_makes_it() -> None:
    step = STEP._replace(student=Out(Z + 2), y=torch.zeros(len(Z), dtype=torch.long))
    rest = 1 - (Z + 2).softmax(1)[:, 0]  # closed form: (1 - p_0)^2 + the others' squares
    expected = rest.square() + (Z + 2).softmax(1)[:, 1:].square().sum(1)
    assert isinstance(make("brier", plugins=OWN), Term)
    torch.testing.assert_close(make("brier", plugins=OWN)(step), expected)
    torch.testing.assert_close(of_labels("brier(weight=3)", OWN)(step), 3 * expected)
    torch.testing.assert_close(make("brier", {"weight": 3}, OWN)(step), 3 * expected)
    assert torch.equal(make("kd", plugins=OWN)(step), torch.full((4,), 2.0)), "one's own takes a built-in one's place"
    assert torch.equal(make("ready", plugins=OWN)(step), torch.full((4,), 4.0))
    made = of_labels("scaled(by=2, shift=-1.5)", OWN)
    assert torch.equal(made(step), torch.full((4,), 2.5))
    assert made.facts.relabels == ((1, 2),)
    assert weighted(own=(2.0, brier))(step).shape == (4,)


def test_settings_of_ones_own_objective_are_checked() -> None:
    for text, words in [
        ("brier(wieght=2)", r"^objective: objective\.brier: no setting 'wieght'; did you mean 'weight'"),
        ("scaled", r"^objective: objective\.scaled: needs by$"),
        ("ready(by=1)", r"no setting 'by'"),
    ]:
        with pytest.raises(ValueError, match=words):
            of_labels(text, OWN)
