"""Students trained together: against a plain torch loop, against each other, in the limit of a high temperature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raystill.platform import learners
from raystill.platform.data.resident import Resident
from raystill.platform.evaluation.accuracy import evaluate
from raystill.platform.seeds import Address, numpy_rng, torch_rng
from raystill.platform.spec import LearnerSpec
from raystill.platform.work.student_grid import Cohort, TrainingSpec

CLASSES, COUNT = 5, 60
TRAINING = TrainingSpec(steps=12, batch_size=16, lr=0.05)
TEMPERATURES, ALPHAS = (1.0, 4.0, 20.0), (0.2, 0.9, 1.0)


@pytest.fixture
def data() -> Resident:
    rng = torch_rng(Address(3))
    x = torch.randint(0, 256, (COUNT, 1, 12, 12), generator=rng, dtype=torch.uint8)
    y = torch.randint(0, CLASSES, (COUNT,), generator=rng)
    return Resident(x, y, torch.full((1, 1, 1), 0.5), torch.full((1, 1, 1), 0.3))


@pytest.fixture
def logits() -> Tensor:
    return 3 * torch.randn(COUNT, CLASSES, generator=torch_rng(Address(4)))


def learner(name: str = "mlp") -> learners.Learner:
    return learners.build(LearnerSpec(name=name, width=6), (1, 12, 12), CLASSES)


def seeds(count: int) -> list[Address]:
    return [Address(0, member=s, stream="student") for s in range(count)]


def train(data: Resident, logits: Tensor, stack: Any, name: str = "mlp", count: int = 1, **more: Any) -> Cohort:
    group = Cohort(learner(name), data, logits, TEMPERATURES, ALPHAS, seeds(count), TRAINING, stack, **more)
    group.advance()
    return group


@pytest.mark.parametrize(("name", "steps"), [("linear", 12), ("mlp", 12), ("lenet", 1), ("resnet", 1)])
@pytest.mark.parametrize("count", [1, 2])
def test_students_under_vmap_are_those_of_the_loop(
    data: Resident, logits: Tensor, name: str, steps: int, count: int
) -> None:
    """Deep ones for one step: round-off may throw a unit over its kink, and from there on trainings part."""
    both = []
    for stack in ("vmap", "loop"):
        group = Cohort(learner(name), data, logits, TEMPERATURES, ALPHAS, seeds(count), TRAINING, stack)  # type: ignore[arg-type]
        start = group.theta.clone()
        group.advance(steps)
        assert not torch.allclose(group.theta, start, atol=1e-4)
        both.append(group.theta)
    assert both[0].shape[:2] == (count, 3)
    torch.testing.assert_close(both[0], both[1], rtol=1e-4, atol=2e-6)


def by_hand(data: Resident, loss: Any, count: int, name: str = "mlp") -> Tensor:
    """torch's own SGD and cosine on torch's own losses; the address's start and order."""
    built, address = learner(name), seeds(1)[0]
    module = built.load(built.init(address.at(stream="student/theta0")))
    optimizer = torch.optim.SGD(module.parameters(), lr=TRAINING.lr, momentum=TRAINING.momentum)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TRAINING.steps)
    per_epoch = count // TRAINING.batch_size
    for step in range(TRAINING.steps):
        epoch, at = divmod(step, per_epoch)
        order = numpy_rng(address.at(step=epoch, stream="student/order")).permutation(count)
        rows = order[at * TRAINING.batch_size : (at + 1) * TRAINING.batch_size]
        x, y = data.batch(rows)
        optimizer.zero_grad()
        loss(module(x), y, torch.from_numpy(rows)).backward()
        optimizer.step()
        cosine.step()
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_a_student_is_what_torchs_sgd_and_kl_div_make_of_it(data: Resident, logits: Tensor) -> None:
    group = train(data, logits, "vmap")
    for i, (T, a) in enumerate(zip(TEMPERATURES, ALPHAS)):

        def loss(z: Tensor, y: Tensor, rows: Tensor, T: float = T, a: float = a) -> Tensor:
            soft = F.kl_div((z / T).log_softmax(1), (logits[rows] / T).softmax(1), reduction="batchmean")
            return (1 - a) * F.cross_entropy(z, y) + a * T**2 * soft

        torch.testing.assert_close(group.theta[0, i], by_hand(data, loss, COUNT), rtol=1e-4, atol=2e-5)


def test_a_high_temperature_trains_as_matching_logits_does(data: Resident, logits: Tensor) -> None:
    """T^2 grad KL -> (z - mean z) - (v - mean v), over K (Hinton 2015, eq. 4), so whole trainings agree."""

    def matching(z: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        v = logits[rows]
        gap = (z - z.mean(1, keepdim=True)) - (v - v.mean(1, keepdim=True))
        return 0.5 * gap.square().sum(1).mean() / CLASSES

    limit = by_hand(data, matching, COUNT, "linear")  # no kinks, over which round-off might throw a unit
    gaps = []
    for T in (4.0, 16.0, 256.0):
        group = Cohort(learner("linear"), data, logits, (T,), (1.0,), seeds(1), TRAINING)
        group.advance()
        gaps.append(float((group.theta[0, 0] - limit).norm() / limit.norm()))
    assert gaps[0] > 2 * gaps[1] > 8 * gaps[2]
    assert gaps[2] < 5e-3


def test_smoothing_and_labels_alone_are_torchs_cross_entropy(data: Resident, logits: Tensor) -> None:
    group = Cohort(learner(), data, logits, (1.0,), (0.0,), seeds(1), TRAINING, "loop", smoothing=0.1)
    group.advance()
    expected = by_hand(data, lambda z, y, rows: F.cross_entropy(z, y, label_smoothing=0.1), COUNT)
    torch.testing.assert_close(group.theta[0, 0], expected, rtol=1e-4, atol=2e-5)


def test_training_in_parts_is_training(data: Resident, logits: Tensor) -> None:
    whole, parts = (Cohort(learner(), data, logits, TEMPERATURES, ALPHAS, seeds(2), TRAINING) for _ in range(2))
    whole.advance()
    for steps in (1, 6, 100):
        parts.advance(steps)
        kept = {k: v.copy() for k, v in parts.state().items()}
        parts = Cohort(learner(), data, logits, TEMPERATURES, ALPHAS, seeds(2), TRAINING)
        parts.restore(kept)
    assert parts.done == TRAINING.steps
    assert torch.equal(whole.theta, parts.theta)


def test_accuracies_are_those_of_each_student_and_a_diverged_one_has_none(data: Resident, logits: Tensor) -> None:
    group = train(data, logits, "vmap", count=2)
    found = group.accuracies(data)
    expected = [[evaluate(learner().apply, theta, data)["accuracy"] for theta in row] for row in group.theta]
    assert np.allclose(found, expected)
    group.theta[1, 2, 0] = float("nan")
    again = group.accuracies(data)
    assert again[1, 2] == 0
    assert np.array_equal(again[0], found[0])


@pytest.mark.parametrize(
    ("temperature", "alpha", "message"),
    [(0.0, 0.5, "temperature"), (-1.0, 0.5, "temperature"), (4.0, 1.1, "alpha"), (4.0, -0.1, "alpha")],
)
def test_settings_out_of_range_are_refused(
    data: Resident, logits: Tensor, temperature: float, alpha: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Cohort(learner(), data, logits, (temperature,), (alpha,), seeds(1), TRAINING)


def test_logits_of_other_images_or_classes_are_refused(data: Resident, logits: Tensor) -> None:
    with pytest.raises(ValueError, match="59 rows of logits for 60 training images"):
        Cohort(learner(), data, logits[:-1], (1.0,), (1.0,), seeds(1), TRAINING)
    with pytest.raises(ValueError, match="classes"):
        Cohort(learner(), data, logits[:, :-1], (1.0,), (1.0,), seeds(1), TRAINING).advance()


def test_running_statistics_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"BatchNorm2d.*running statistics.*vmap.*GroupNorm") as caught:
        learners.wrap(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))
    assert "\n" not in str(caught.value)
