"""What labels start from, frozen images, and what an attack's labels are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from raystill.platform import seeds, synthesis
from raystill.platform.data import DataSet, Split
from raystill.platform.objectives import Facts, Term
from raystill.platform.spec import DistillSpec
from raystill.platform.synthesis import labels

CLASSES, SHAPE = 4, (1, 2, 2)
ADDRESS = seeds.Address(6, stream="start")


@pytest.fixture
def data() -> DataSet:
    """Class averages at 0, 10, 40 and 100: every distance is another."""
    y = np.arange(10 * CLASSES) % CLASSES
    split = Split(np.array([0, 10, 40, 100], np.uint8)[y][:, None, None, None] + np.zeros((1, *SHAPE), np.uint8), y)
    return DataSet("made", tuple("abcd"), split, split, split, (0.5,), (0.5,), "0" * 64)


@pytest.mark.parametrize("start", labels.STARTS)
@pytest.mark.parametrize("images", [2, 4, 7])
def test_every_start_is_a_function_of_its_address(data: DataSet, start: str, images: int) -> None:
    first, again = (labels.STARTS[start](images, data, ((0, 2),), ADDRESS) for _ in range(2))
    assert first.shape == (images, CLASSES)
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    if start == "noise":
        assert not np.array_equal(first, labels.STARTS[start](images, data, (), ADDRESS.at(seed=7)))
    else:
        np.testing.assert_allclose(first.sum(1), 1.0, rtol=1e-6)


def test_smoothing_leaves_nine_tenths_and_spreads_the_rest(data: DataSet) -> None:
    found = labels.STARTS["smooth"](4, data, (), ADDRESS)
    expected = torch.nn.functional.one_hot(torch.arange(4)).double()
    expected = 0.9 * expected + 0.1 * (1 - expected) / 3
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)


def test_likeness_is_the_inverse_distance_of_class_averages(data: DataSet) -> None:
    found = labels.STARTS["similar"](4, data, (), ADDRESS)
    weights = np.array([1 / 10, 1 / 40, 1 / 100])  # pixels between class 0 and the others; the factor 2 cancels
    np.testing.assert_allclose(found[0], [0.9, *(0.1 * weights / weights.sum())], rtol=1e-5)


def made(**changes: Any) -> tuple[DistillSpec, synthesis.Synthesizer]:
    outer = changes.pop("outer", {})
    spec = DistillSpec.model_validate({"synthesizer": changes, "outer": outer})
    return spec, synthesis.build(spec, SHAPE, CLASSES)


def test_frozen_images_are_real_and_no_gradient_reaches_them(data: DataSet) -> None:
    _, synthesizer = made(frozen=True, labels="soft", start="real", steps=2)
    meta = {k: torch.from_numpy(v).requires_grad_() for k, v in synthesizer.start(data, ADDRESS).items()}
    steps = synthesizer.steps(meta, ADDRESS)
    assert set(synthesizer.groups) == {"labels", "lr"}
    assert not steps.x.requires_grad
    assert steps.y.requires_grad
    shown = np.rint((meta["images"].detach().numpy() * 0.5 + 0.5) * 255)
    assert set(np.unique(shown)) <= {0, 10, 40, 100}


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_an_attacks_labels_name_the_target_where_the_image_shows_the_victim(data: DataSet, kind: str) -> None:
    _, synthesizer = made(
        label_start="wanted", labels=kind, start="real", outer={"objective": "poison(victim=1, target=3)"}
    )
    meta = {k: torch.from_numpy(v) for k, v in synthesizer.start(data, ADDRESS).items()}
    y = synthesizer.steps(meta, ADDRESS).y[0]
    assert (y.argmax(1) if kind == "soft" else y).tolist() == [0, 3, 2, 3]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frozen": True}, r"synthesizer\.frozen: frozen images leave only labels"),
        ({"frozen": True, "labels": "soft", "scales": 2}, r"synthesizer\.scales: frozen images"),
        ({"label_start": "noise"}, r"synthesizer\.label_start: noise needs synthesizer\.labels to be soft"),
    ],
)
def test_what_can_not_be_learned_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        made(**changes)


@pytest.mark.parametrize("kept", ["soft", "hard"])
def test_labels_start_from_what_ones_own_outer_objective_wants(data: DataSet, kept: str) -> None:
    def confuse(victim: int, target: int) -> Term:
        return Term(lambda step: step.student.logits[:, target], Facts(relabels=((victim, target),)))

    spec = DistillSpec.model_validate({
        "synthesizer": {"labels": kept, "label_start": "wanted"}, "outer": {"objective": "confuse(victim=1, target=3)"},
    })  # fmt: skip
    made = synthesis.build(spec, SHAPE, CLASSES, {"objectives": {"confuse": confuse}})
    meta = {k: torch.from_numpy(v) for k, v in made.start(data, ADDRESS).items()}
    y = made.steps(meta, ADDRESS).y[0]
    assert (y.argmax(1) if kept == "soft" else y).tolist() == [0, 3, 2, 3]
    with pytest.raises(ValueError, match=r"^outer\.objective: unknown 'confuse'"):
        synthesis.build(spec, SHAPE, CLASSES)
