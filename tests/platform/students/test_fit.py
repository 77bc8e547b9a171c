"""The loop: against a loop written out, what it leaves alone, what it refuses, and the same bits after a stop."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raystill.platform import seeds
from raystill.platform.artifacts.distilled import Distilled
from raystill.platform.data.order import Order, order
from raystill.platform.objectives import hinton, make, regressor, weighted
from raystill.platform.students import Checkpoints, Fixed, OptimizerSpec, Some, fit
from raystill.platform.students.augmentations import Augmentation, Batch, Context
from raystill.platform.students.augmentations import make as make_augmentation
from raystill.platform.students.optimisers import OPTIMIZERS, factor, optimiser
from raystill.platform.students.teachers import Teacher, ema, frozen, noisy, own, virtual

SHAPE, K, N = (1, 6, 6), 4, 96
AT = seeds.Address(2, stream="students")
CE = make("cross_entropy")
PLAIN = OptimizerSpec(lr=0.1, momentum=0.0, weight_decay=0.0, schedule="constant", warmup=0, clip=None)


class Problem(NamedTuple):
    """Images x (N, 1, 6, 6) and their classes y (N,), told apart by which corner is bright."""

    x: Tensor
    y: Tensor


@pytest.fixture
def problem() -> Problem:
    y = torch.arange(N) % K
    x = 0.5 * torch.randn(N, *SHAPE, generator=seeds.torch_rng(AT))
    for i, k in enumerate(y):
        x[i, 0, 3 * (k // 2) : 3 * (k // 2) + 3, 3 * (k % 2) : 3 * (k % 2) + 3] += 1
    return Problem(x, y)


def network(member: int = 0, width: int = 8, outputs: int = K, dropout: float = 0.0) -> nn.Module:
    """A perceptron of two hidden layers: 1 and 4 are linear, 2 and 5 their rectifiers, 7 the head."""
    with seeds.global_at(AT.at(member=member)):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(36, width), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, outputs),
        )  # fmt: skip


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def right(model: nn.Module, problem: Problem) -> float:
    return (model(problem.x).argmax(1) == problem.y).float().mean().item()


def test_is_gradient_descent_on_the_mean_loss_of_its_batches(problem: Problem) -> None:
    found, oracle = network(), network()
    fit(found, problem, CE, seed=AT, steps=9, batch_size=32, optimizer=PLAIN)
    rows = np.concatenate([order(N, AT.at(stream=f"{AT.stream}/order"), epoch) for epoch in range(3)])
    for batch in rows.reshape(9, 32):
        loss = nn.functional.cross_entropy(oracle(problem.x[batch]), problem.y[batch])
        for p, g in zip(oracle.parameters(), torch.autograd.grad(loss, list(oracle.parameters()))):
            p.data -= 0.1 * g
    for a, b in zip(found.parameters(), oracle.parameters()):
        torch.testing.assert_close(a, b)


def test_a_student_learns_from_a_teacher_alone(problem: Problem) -> None:
    teacher, student = network(1, 32), network()
    fit(teacher, problem, CE, seed=AT, steps=60)
    assert right(teacher, problem) > 0.95
    wrong = (problem.x, (problem.y + 1) % K)  # the labels say otherwise
    done = fit(student, wrong, make("kd"), seed=AT, steps=120, teacher=frozen(teacher))
    assert right(student, problem) > 0.9
    assert done.cached
    assert not student.training


def test_batches_are_whole_permutations_readable_at_any_step() -> None:
    index = Order(10, 4, AT)
    whole = np.concatenate([index.rows(s) for s in range(5)])
    assert sorted(whole[:10]) == sorted(whole[10:]) == list(range(10))
    assert np.array_equal(Order(10, 4, AT).rows(3), index.rows(3))
    assert sorted(Order(3, 7, AT).rows(0)[:6]) == [0, 0, 1, 1, 2, 2]


def test_cached_logits_train_as_live_ones(problem: Problem) -> None:
    live, kept = network(), network()
    for student, cached in ((live, False), (kept, True)):
        teacher = frozen(network(1, 32))
        done = fit(student, problem, hinton(), seed=AT, steps=20, teacher=teacher, cached=cached)
        assert done.cached == cached
    for a, b in zip(live.parameters(), kept.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def about(student: nn.Module) -> Context:
    return Context(K, torch.zeros(1, 1, 1), torch.ones(1, 1, 1), student)


REFUSED = {
    "a random augmentation": (
        lambda s: {"augmentation": make_augmentation({"shift": {}}, about(s))},
        "the augmentation shift draws anew",
    ),
    "the ball": (
        lambda s: {"objective": make("wasserstein", {"inner": make("kd"), "radius": 0.1})},
        "differentiates the teacher's answers with respect to x",
    ),
    "noise": (lambda s: {"teacher": noisy(frozen(network(1)))}, "get new noise"),
    "itself": (lambda s: {"teacher": own(s)}, "it is the student itself"),
    "an average": (lambda s: {"teacher": ema(s)}, "a moving average of the student"),
    "features": (
        lambda s: {"teacher": frozen(network(1), ["5"]), "objective": make("hint", {"student": "5", "teacher": "5"})},
        "compares features",
    ),
    "no teacher": (lambda s: {"objective": CE}, "the objective uses no teacher"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_cached_logits_are_refused_where_they_are_not_the_teachers(case: str, problem: Problem) -> None:
    student, (changes, says) = network(), REFUSED[case]
    options: dict[str, Any] = {"objective": make("kd"), "teacher": frozen(network(1)), **changes(student)}
    with pytest.raises(ValueError, match=f"cached: .*{says}"):
        fit(student, problem, **options, seed=AT, steps=1, cached=True)
    assert same(student, network())
    assert not fit(student, problem, **options, seed=AT, steps=1).cached  # and by itself it asks at each step


def test_fixed_views_may_be_cached_and_are_what_the_teacher_sees(problem: Problem) -> None:
    flip = Augmentation(lambda batch, at: batch._replace(x=batch.x.flip(3)))
    students = [network(), network()]
    for student, cached in zip(students, (True, False)):
        fit(
            student, problem, make("kd"), seed=AT, steps=5, teacher=frozen(network(1)), augmentation=flip, cached=cached
        )
    for a, b in zip(*(s.parameters() for s in students)):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_hint_trains_only_what_lies_below_it_and_its_regressor(problem: Problem) -> None:
    student, before = network(), network()
    r = regressor((8,), (32,), AT)
    start = r.weight.detach().clone()
    objective = make("hint", {"student": "2", "teacher": "5", "regressor": r})
    fit(student, problem, objective, seed=AT, steps=5, teacher=frozen(network(1, 32), ["5"]))
    moved = {n: not torch.equal(p, before.get_parameter(n)) for n, p in student.named_parameters()}
    assert moved == {n: n.startswith("1.") for n in moved}  # weight decay too leaves the rest alone
    assert not torch.equal(r.weight, start)


def test_only_some_parts_learn_and_all_may_again_afterwards(problem: Problem) -> None:
    student, before = network(), network()
    fit(student, problem, CE, seed=AT, steps=3, only=["7"])
    assert all(torch.equal(p, before.get_parameter(n)) for n, p in student.named_parameters() if n[0] != "7")
    assert not torch.equal(student[7].weight, before[7].weight)
    assert all(p.requires_grad for p in student.parameters())


def test_the_wasserstein_term_reaches_the_student_through_both_networks(problem: Problem) -> None:
    ball, plain = network(), network()
    objective = make("wasserstein", {"inner": make("kd"), "radius": 0.5})
    options: dict[str, Any] = {"seed": AT, "steps": 40, "teacher": frozen(network(1, 32)), "optimizer": PLAIN}
    done = fit(ball, problem, objective, **options)
    fit(plain, problem, make("kd"), **options)
    assert {"inner", "gradient"} <= done.history[-1].keys() or {"kd", "gradient"} <= done.history[-1].keys()

    def slope(model: nn.Module) -> Tensor:
        x = problem.x.clone().requires_grad_()
        v, z = network(1, 32)(x), model(x)
        loss = 16 * nn.functional.kl_div((z / 4).log_softmax(1), (v / 4).softmax(1), reduction="sum")
        return torch.autograd.grad(loss, x)[0].flatten(1).norm(dim=1).mean()

    assert slope(ball) < slope(plain)


def test_a_moving_average_follows_the_student(problem: Problem) -> None:
    student = network()
    teacher = ema(student, 0.5, warm=False)
    trail = [network()[7].bias.detach().clone()]

    class Notes(Fixed):
        def batch(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
            trail.append(student[7].bias.detach().clone())
            return super().batch(index)

    objective = weighted(labels=(1.0, CE), same=(1.0, make("mean_teacher")))
    fit(student, Notes(*problem), objective, seed=AT, steps=3, teacher=teacher)
    expected = trail[0]
    for weight in (*trail[3:], student[7].bias):  # one look was the rehearsal's, one the first step's
        expected = 0.5 * expected + 0.5 * weight
    assert teacher.module
    torch.testing.assert_close(teacher.module[7].bias, expected)  # type: ignore[index]


def test_unlabelled_samples_come_without_their_labels(problem: Problem) -> None:
    batch: list[Tensor] = []

    def look(s: Batch, at: seeds.Address) -> Batch:
        batch.append(s.y)
        return s

    known, rest = Some(Fixed(*problem), np.arange(8)), Some(Fixed(*problem), np.arange(8, N), labels=False)
    objective = weighted(
        labels=(1.0, make("labelled", {"inner": CE})), guess=(1.0, make("unlabelled", {"inner": make("fixmatch")}))
    )
    student = network()
    fit(student, known, objective, seed=AT, steps=4, unlabelled=rest, ratio=3, batch_size=4,
        teacher=own(student), augmentation=Augmentation(look, "it is watched"))  # fmt: skip
    assert all((y[:4] >= 0).all() and (y[4:] == -1).all() and len(y) == 16 for y in batch[1:])


def moco(student: nn.Module) -> dict[str, Any]:
    return {
        "objective": make("info_nce", {"queue": 64, "width": K}), "teacher": ema(student, 0.9, warm=False),
        "augmentation": make_augmentation({"pair": {"teacher": "weak", "student": "weak"}}, about(student)),
    }  # fmt: skip


RESUMED: dict[str, Any] = {
    "labels": lambda s: {"objective": CE},
    "adam": lambda s: {"objective": CE, "optimizer": OptimizerSpec(name="adam", lr=0.01)},
    "moco": moco,
    "hint": lambda s: {
        "objective": make("hint", {"student": "5", "teacher": "5", "regressor": regressor((8,), (32,), AT)}),
        "teacher": frozen(network(1, 32), ["5"]),
    },
    "noisy": lambda s: {"objective": make("logit_matching"), "teacher": noisy(frozen(network(1)))},
}


@pytest.mark.parametrize("case", RESUMED)
def test_a_stopped_training_goes_on_to_the_same_bits(case: str, problem: Problem, tmp_path: Path) -> None:
    def run(name: str, stop: int | None) -> tuple[nn.Module, list[dict[str, float]]]:
        student = network(dropout=0.2)

        def log(step: int, row: dict[str, float]) -> None:
            if step == stop:
                raise KeyboardInterrupt

        keep = Checkpoints(tmp_path / name, case, every=4)
        done = fit(student, problem, seed=AT, steps=12, checkpoint=keep, log=log, log_every=2, **RESUMED[case](student))
        return student, done.history

    whole, history = run("whole", None)
    with pytest.raises(KeyboardInterrupt):
        run("stopped", 10)
    again, resumed = run("stopped", None)
    assert same(whole, again)
    assert history == resumed


def test_a_torn_checkpoint_is_passed_over_and_a_foreign_one_refused(problem: Problem, tmp_path: Path) -> None:
    keep = Checkpoints(tmp_path, "mine", every=2)
    whole = network()
    fit(whole, problem, CE, seed=AT, steps=6, checkpoint=keep)
    newest = sorted(tmp_path.glob("step-*"))[-1]
    newest.write_bytes(newest.read_bytes()[:-5])
    found = keep.newest()
    assert found
    assert found[1]["step"] == 2
    again = network()
    fit(again, problem, CE, seed=AT, steps=6, checkpoint=keep)
    assert same(whole, again)
    with pytest.raises(ValueError, match="belongs to another training"):
        fit(network(), problem, CE, seed=AT, steps=6, checkpoint=Checkpoints(tmp_path, "theirs"))


def test_two_trainings_do_not_write_one_folder_of_checkpoints(problem: Problem, tmp_path: Path) -> None:
    keep = Checkpoints(tmp_path / "kept", "mine", every=2)

    def again(step: int, row: dict[str, float]) -> None:
        fit(network(), problem, CE, seed=AT, steps=6, checkpoint=keep)

    with pytest.raises(ValueError, match="kept is being worked on by another process"):
        fit(network(), problem, CE, seed=AT, steps=6, checkpoint=keep, log=again, log_every=2)
    fit(network(), problem, CE, seed=AT, steps=6, checkpoint=keep)


def test_a_distilled_set_is_data_like_any_other(problem: Problem) -> None:
    images, labels = problem.x[:16].reshape(2, 8, 1, 6, 6).numpy(), problem.y[:16].reshape(2, 8).numpy()
    manifest = {"spec": {"inner": {"objective": "cross_entropy"}}}
    rates = {"lr": np.full(2, 0.1, np.float32)}
    data = Distilled(images.copy(), labels.copy(), rates, np.arange(2), None, manifest)
    a, b = network(), network()
    fit(a, data, CE, seed=AT, steps=5)
    fit(b, (problem.x[:16], problem.y[:16]), CE, seed=AT, steps=5)
    assert same(a, b)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_learns_and_lars_scales_by_the_trust_ratio(name: str, problem: Problem) -> None:
    student = network()
    lr = {"lars": 20.0, "sgd": 0.1}.get(name, 0.02)
    fit(student, problem, CE, seed=AT, steps=60, optimizer=OptimizerSpec(name=name, lr=lr, weight_decay=0.0))
    assert right(student, problem) > 0.8
    p = nn.Parameter(torch.tensor([3.0, 4.0]))
    p.grad = torch.tensor([0.0, 2.0])
    optimiser(OptimizerSpec(name="lars", lr=1.0, momentum=0.0, weight_decay=0.0))([p]).step()
    torch.testing.assert_close(p.detach(), torch.tensor([3.0, 4.0 - 0.001 * 5 / 2 * 2]))  # 1708.03888, eq. 6


def test_the_course_of_the_rate() -> None:
    spec = OptimizerSpec(warmup=0.2)
    found = [factor(spec, s, 10) for s in range(10)]
    assert found[:2] == [0.5, 1.0]
    assert found[2:] == pytest.approx([0.5 * (1 + math.cos(math.pi * s / 8)) for s in range(8)])
    assert factor(OptimizerSpec(schedule="constant"), 9, 10) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"teacher": frozen(network(1, outputs=3))}, r"objective.kd: the teacher has 3 classes and the student 4"),
        ({"teacher": None}, r"teacher: the objective needs a teacher"),
        ({"steps": 0}, r"must be at least 1"),
        ({"only": ["9"]}, r"only: Sequential has no module '9'"),
        ({"only": ["2"]}, r"no parameters to train"),
        ({"optimizer": OptimizerSpec(name="sgdd")}, r"optimizer.name: unknown 'sgdd'; did you mean 'sgd'"),
        ({"objective": make("hint", {"student": "55", "teacher": "5"})}, r"no module '55'; did you mean '5'"),
        ({"objective": make("info_nce", {"width": 9})}, r"objective.info_nce.width: 9, and the student's embeddings"),
        ({"objective": make("jensen_shannon")}, r"needs 2, given 0"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_says_so_before_any_work(
    options: dict[str, Any], says: str, problem: Problem
) -> None:
    student, before = network(), network()
    given: dict[str, Any] = {"objective": make("kd"), "teacher": frozen(network(1)), "steps": 3, **options}
    with pytest.raises(ValueError, match=says):
        fit(student, problem, **given, seed=AT)
    assert same(student, before)


def test_a_rehearsal_moves_nothing(problem: Problem) -> None:
    student = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), network()[1:])
    before = {k: v.clone() for k, v in student.state_dict().items()}
    fit(student, problem, hinton(), seed=AT, steps=3, teacher=virtual(K), dry=True)
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())
    assert student.training


def test_a_loss_that_is_no_number_stops(problem: Problem) -> None:
    with pytest.raises(FloatingPointError, match="the loss of step"):
        fit(network(), problem, make("squared_error"), seed=AT, steps=60, optimizer=OptimizerSpec(lr=1e4, clip=None))


def test_bfloat16_learns_too(problem: Problem) -> None:
    student, teacher = network(), network(1, 32)
    fit(teacher, problem, CE, seed=AT, steps=60, precision="bfloat16")
    fit(student, problem, hinton(), seed=AT, steps=100, teacher=frozen(teacher), precision="bfloat16", cached=False)
    assert right(student, problem) > 0.9
    assert all(p.dtype == torch.float32 for p in student.parameters())


def test_a_teacher_needs_no_network(problem: Problem) -> None:
    teacher: Teacher = virtual(K)
    student = network()
    assert fit(student, problem, make("kd", {"temperature": 20}), seed=AT, steps=60, teacher=teacher).cached
    assert right(student, problem) > 0.9
