"""Each objective against another library's, torch's own functions, or its formula written out sample by sample."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss
from timm.loss import JsdCrossEntropy
from torch import Tensor, nn
from torchdistill.losses.mid_level import AltActTransferLoss, KDLoss

from raystill.platform.objectives import Out, Step, kl, linear, make, ramp_up, regressor, soft, weighted
from raystill.platform.seeds import Address

BATCH, CLASSES = 8, 5
Draw = Callable[..., Tensor]
Networks = tuple[Callable[[Tensor, Tensor], Out], Callable[[Tensor], Out]]
A = torch.tensor([[1.4, 2.8, 0.9]], dtype=torch.float64)  # of the seed's slide on softmax with a temperature


def close(found: Any, expected: Any, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture
def step(draw: Draw) -> Step:
    """Logits of a student, of its two further views and of a teacher, and ids."""
    z, v, *views = (2 * draw(BATCH, CLASSES, stream=s) for s in ("student", "teacher", "first", "second"))
    return Step(torch.empty(BATCH, 0), torch.arange(BATCH) % CLASSES, Out(z), Out(v), tuple(Out(w) for w in views))


@pytest.fixture
def maps(draw: Draw) -> Step:
    """Feature maps of a student and of a teacher, (B, C, H, W) of different shapes."""
    a, b = 2 * draw(BATCH, 3, 6, 6, stream="map"), 2 * draw(BATCH, 4, 4, 4, stream="teacher's map")
    return Step(a, torch.arange(BATCH), Out(a, {"a": a}), Out(b, {"b": b}))


# labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("rows", [False, True])
def test_cross_entropy_and_its_smoothing_are_torchs(step: Step, smoothing: float, rows: bool) -> None:
    y = step.teacher.logits.softmax(1) if rows and step.teacher else step.y
    expected = F.cross_entropy(step.student.logits, y, reduction="none", label_smoothing=smoothing)
    close(make("cross_entropy", {"smoothing": smoothing})(step._replace(y=y)), expected, 1e-12)


def test_smoothing_gives_the_seeds_row() -> None:
    """Seed 002 prints (.05, .85, .05, .05) and says alpha = .8; the formula needs .2 for it."""
    z = torch.tensor([[0.3, -1.0, 2.0, 0.1]], dtype=torch.float64)
    row = torch.tensor([[0.05, 0.85, 0.05, 0.05]], dtype=torch.float64)
    ids = Step(z, torch.tensor([1]), Out(z))
    expected = make("cross_entropy")(ids._replace(y=row))
    close(make("cross_entropy", {"smoothing": 0.2})(ids), expected, 1e-12)
    assert (make("cross_entropy", {"smoothing": 0.8})(ids) - expected).abs() > 0.1


def test_cross_entropy_of_rows_that_sum_to_anything_is_linear_in_them(step: Step) -> None:
    rows = step.student.logits.roll(1)
    one, two = (make("cross_entropy")(step._replace(y=y)) for y in (rows, -2.5 * rows))
    close(two, -2.5 * one, 1e-12)


def test_squared_error_is_torchs(step: Step) -> None:
    rows = step.student.logits.softmax(1).roll(1)
    expected = 0.5 * F.mse_loss(step.student.logits, rows, reduction="none").sum(1)
    close(make("squared_error")(step._replace(y=rows)), expected, 1e-12)


def test_labelled_leaves_out_what_has_no_label(step: Step) -> None:
    y = torch.where(torch.arange(BATCH) < 3, step.y, -1)
    found = make("labelled", {"inner": make("cross_entropy")})(step._replace(y=y))
    close(found[:3], F.cross_entropy(step.student.logits, step.y, reduction="none")[:3], 1e-12)
    assert not found[3:].any()
    # the mean over the labelled ones, by the weight that its docstring names
    close(found.mean() * BATCH / 3, F.cross_entropy(step.student.logits, y, ignore_index=-1), 1e-12)


# teachers


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_hinton_is_torchdistills(step: Step, temperature: float) -> None:
    """Their alpha is the share of the labels, ours the teacher's."""
    assert step.teacher
    theirs = KDLoss("fc", "output", "fc", "output", temperature, alpha=0.3)
    expected = theirs({"fc": {"output": step.student.logits}}, {"fc": {"output": step.teacher.logits}}, step.y)
    close(make("hinton", {"temperature": temperature, "alpha": 0.7})(step).mean(), expected)


def test_kd_is_torchs_batchmean_at_every_alpha(step: Step) -> None:
    """Also at the ends, where other codes lose the T^2."""
    assert step.teacher
    z, v = step.student.logits / 3, step.teacher.logits / 3
    expected = 9 * F.kl_div(F.log_softmax(z, 1), F.softmax(v, 1), reduction="batchmean")
    close(make("kd", {"temperature": 3})(step).mean(), expected)
    close(make("hinton", {"temperature": 3, "alpha": 1})(step).mean(), expected)
    hard = make("hinton", {"temperature": 3, "alpha": 0})(step)
    close(hard, F.cross_entropy(step.student.logits, step.y, reduction="none"))


@pytest.mark.parametrize(
    ("factor", "printed"),
    [
        (1.0, [0.17662444, 0.71624742, 0.10712814]),
        (0.3, [0.2956245, 0.44992913, 0.25444637]),
        (0.5, [0.26367459, 0.53097543, 0.20534998]),
    ],
)
def test_the_gradient_of_kd_holds_the_seeds_softened_answers(factor: float, printed: list[float]) -> None:
    """d kd / d z = T (p - q): a student that knows nothing, p = 1/3, shows q, which seed 002 prints."""
    z, T = torch.zeros_like(A).requires_grad_(), 1 / factor
    make("kd", {"temperature": T})(Step(A, torch.zeros(1, dtype=torch.long), Out(z), Out(A))).sum().backward()
    assert z.grad is not None
    close(1 / 3 - z.grad / T, torch.tensor([printed], dtype=torch.float64), 1e-7)


def test_kd_becomes_logit_matching_as_the_temperature_grows(step: Step) -> None:
    """d kd / d z -> (z - v) / K for logits of mean zero (Hinton 2015, eq. 4), and ever nearer."""
    assert step.teacher
    z, v = (w - w.mean(1, keepdim=True) for w in (step.student.logits, step.teacher.logits))
    z.requires_grad_()
    zeroed = step._replace(student=Out(z), teacher=Out(v))
    expected = torch.autograd.grad(make("logit_matching")(zeroed).sum(), z)[0] / CLASSES
    close(expected, (z.detach() - v) / CLASSES, 1e-12)
    slopes = [torch.autograd.grad(make("kd", {"temperature": T})(zeroed).sum(), z)[0] for T in (1, 4, 20, 100, 1e4)]
    errors = [float((slope - expected).norm() / expected.norm()) for slope in slopes]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3


def test_kl_is_exact_where_probabilities_underflow_or_are_none() -> None:
    v = torch.tensor([[200.0, 0.0, -200.0], [0.0, 1.0, -math.inf]], requires_grad=True)
    z = torch.tensor([[0.0, 100.0, -100.0], [0.0, 2.0, -3.0]], requires_grad=True)
    found = kl(v, z)
    q = torch.tensor([1.0, math.e]) / (1 + math.e)
    close(found, torch.stack([torch.tensor(100.0), (q * (q.log() - F.log_softmax(z[1], 0)[:2])).sum()]))
    (slope,) = torch.autograd.grad(found.sum(), v, create_graph=True)
    assert slope.isfinite().all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(slope.square().sum(), (v, z)))


def test_logit_matching_and_mean_teacher_are_torchs_squares(step: Step) -> None:
    assert step.teacher
    z, v = step.student.logits, step.teacher.logits
    close(make("logit_matching")(step), 0.5 * F.mse_loss(z, v, reduction="none").sum(1), 1e-12)
    close(make("mean_teacher")(step).mean(), F.mse_loss(z.softmax(1), v.softmax(1)), 1e-12)


def test_hint_is_torchs_square_behind_the_regressor(maps: Step) -> None:
    r = regressor((3, 6, 6), (4, 4, 4), Address(3)).double()
    assert isinstance(r, nn.Conv2d)
    assert r.kernel_size == (3, 3)
    found = make("hint", {"student": "a", "teacher": "b", "regressor": r})(maps)
    assert maps.teacher
    expected = 0.5 * F.mse_loss(r(maps.x), maps.teacher.features["b"], reduction="none").sum((1, 2, 3))
    close(found, expected)


@pytest.mark.parametrize("margin", [0.5, 1.0])
def test_activation_boundary_is_torchdistills(maps: Step, margin: float) -> None:
    r = regressor((3, 6, 6), (4, 4, 4), Address(3)).double()
    own = make("activation_boundary", {"student": "a", "teacher": "b", "connector": r, "margin": margin})
    assert maps.teacher
    theirs = AltActTransferLoss.compute_alt_act_transfer_loss(r(maps.x), maps.teacher.features["b"], margin)
    close(own(maps).sum(), theirs)


def test_activation_boundary_is_zero_once_all_neurons_lie_beyond_the_margin(maps: Step) -> None:
    assert maps.teacher
    b = maps.teacher.features["b"]
    own = make("activation_boundary", {"student": "b", "teacher": "b"})
    same = maps._replace(student=Out(maps.x, {"b": torch.where(b > 0, 1.01, -1.01)}))
    assert not own(same).any()
    assert (own(same._replace(student=Out(maps.x, {"b": 0.5 * b.sign()}))) > 0).all()


def test_a_regressor_is_its_address_alone_and_joins_flat_features_too() -> None:
    one, two, other = (regressor((4,), (6,), Address(0, member=m)) for m in (0, 0, 1))
    assert isinstance(one, nn.Linear)
    assert torch.equal(one.weight, two.weight)
    assert not torch.equal(one.weight, other.weight)


# the ball around few data


@pytest.fixture
def ball(networks: Networks, members: Tensor, x: Tensor) -> tuple[Tensor, Callable[[Tensor, Tensor], Step]]:
    """Weights, and the step of (weights, inputs) with both networks as functions of the inputs."""
    student, teacher = networks

    def step(theta: Tensor, x: Tensor) -> Step:
        both = lambda z: (student(theta, z), teacher(z))  # noqa: E731
        return Step(x, torch.arange(len(x)), student(theta, x), teacher(x), outputs=both)

    return members[0], step


def slopes(loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """|d loss_i / d x_i| (B,) by central differences, an input at a time."""
    found, h = torch.zeros_like(x), 1e-6
    for i in range(x.shape[1]):
        e = torch.zeros_like(x)
        e[:, i] = h
        found[:, i] = (loss(x + e) - loss(x - e)) / (2 * h)
    return found.norm(dim=1)


@pytest.mark.parametrize("inner", ["kd", "logit_matching"])
def test_wasserstein_is_equation_2_by_finite_differences(inner: str, ball: Any, x: Tensor) -> None:
    theta, step = ball
    loss = make(inner)
    found, parts = make("wasserstein", {"inner": loss, "radius": 0.7}).report(step(theta, x))
    total = slopes(lambda x: loss(step(theta, x)), x)
    close(parts["gradient"], total)
    close(parts["inner"], loss(step(theta, x)), 1e-12)
    close(found, parts["inner"] + 0.7 * total)
    # through the teacher too: held still, it gives another penalty
    held = slopes(lambda x_: loss(step(theta, x_)._replace(teacher=step(theta, x).teacher)), x)
    assert (held - total).abs().max() > 1e-2


def test_wasserstein_learns_by_its_exact_gradient(ball: Any, x: Tensor) -> None:
    theta, step = ball
    own = make("wasserstein", {"inner": make("kd"), "radius": 0.7})
    assert torch.autograd.gradcheck(lambda theta: own(step(theta, x)), theta.clone().requires_grad_())


def test_wasserstein_of_a_student_that_is_its_teacher_has_derivatives(networks: Networks, x: Tensor) -> None:
    theta = torch.linspace(-1, 1, 32, dtype=torch.float64).requires_grad_()
    both = lambda z: (networks[0](theta, z), networks[0](theta.detach(), z))  # noqa: E731
    own = make("wasserstein", {"inner": make("logit_matching"), "radius": 1.0})
    losses = own(Step(x, torch.arange(len(x)), *both(x), outputs=both))
    assert not losses.any()
    (slope,) = torch.autograd.grad(losses.sum(), theta, create_graph=True)
    assert slope.isfinite().all()
    assert torch.autograd.grad(slope.sum(), theta)[0].isfinite().all()


# consistency


def test_jensen_shannon_with_cross_entropy_is_timms(step: Step) -> None:
    stacked = torch.cat([step.student.logits, *(out.logits for out in step.views)])
    expected = JsdCrossEntropy(num_splits=3, alpha=12, smoothing=0)(stacked, step.y.repeat(3))
    own = weighted(labels=(1.0, make("cross_entropy")), views=(12.0, make("jensen_shannon")))
    close(own(step).mean(), expected)


def test_jensen_shannon_is_none_for_equal_answers_and_at_most_the_logarithm_of_their_number(step: Step) -> None:
    own = make("jensen_shannon")
    close(own(step._replace(views=(step.student, step.student))), torch.zeros(BATCH, dtype=torch.float64), 1e-12)
    certain = [Out(1e3 * soft(torch.full((BATCH,), k), CLASSES).double()) for k in range(3)]
    close(own(Step(step.x, step.y, certain[0], None, tuple(certain[1:]))), torch.full((BATCH,), math.log(3)).double())
    orders = [
        own(step._replace(student=o[0], views=o[1:])) for o in itertools.permutations((step.student, *step.views))
    ]
    for found in orders:
        close(found, orders[0], 1e-12)


def test_fixmatch_is_its_formula(step: Step) -> None:
    assert step.teacher
    q, p = step.teacher.logits.softmax(1).tolist(), step.student.logits.log_softmax(1).tolist()
    expected = [-p[i][max(range(CLASSES), key=q[i].__getitem__)] if max(q[i]) >= 0.6 else 0.0 for i in range(BATCH)]
    assert 0 < sum(value == 0 for value in expected) < BATCH
    close(make("fixmatch", {"threshold": 0.6})(step).tolist(), expected)


def test_uda_is_its_formula(step: Step) -> None:
    assert step.teacher
    v, p = step.teacher.logits.tolist(), step.student.logits.log_softmax(1).tolist()
    expected = []
    for i in range(BATCH):
        plain, sharp = ([math.exp(a / T) for a in v[i]] for T in (1.0, 0.4))
        q = [a / sum(sharp) for a in sharp]
        sure = max(plain) / sum(plain) > 0.6
        expected.append(sum(a * (math.log(a) - b) for a, b in zip(q, p[i])) if sure else 0.0)
    assert 0 < sum(value == 0 for value in expected) < BATCH
    close(make("uda", {"threshold": 0.6})(step).tolist(), expected)


@pytest.mark.parametrize("name", ["fixmatch", "uda", "mean_teacher", "info_nce"])
def test_no_gradient_goes_to_the_one_who_guesses_or_keeps_the_keys(name: str, step: Step) -> None:
    settings = {"fixmatch": {"threshold": 0}, "uda": {"threshold": 0}, "info_nce": {"queue": 12, "width": CLASSES}}
    own = make(name, settings.get(name))
    assert step.teacher
    z, v = (out.logits.requires_grad_() for out in (step.student, step.teacher))
    losses = own(step._replace(state=own.start(Address(0))))
    students, others = torch.autograd.grad(losses.sum(), (z, v), materialize_grads=True)
    assert students.any()
    assert not others.any()


# contrast


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_is_pytorch_metric_learnings(step: Step, temperature: float) -> None:
    pair = step._replace(views=step.views[:1])
    expected = SelfSupervisedLoss(NTXentLoss(temperature=temperature))(pair.student.logits, pair.views[0].logits)
    close(make("nt_xent", {"temperature": temperature})(pair).mean(), expected)


def test_info_nce_is_torchs_cross_entropy_of_the_key_among_the_queue(step: Step, draw: Draw) -> None:
    assert step.teacher
    own = make("info_nce", {"temperature": 0.2, "queue": 12, "width": CLASSES})
    queue = draw(12, CLASSES, stream="queue")
    similar = [F.cosine_similarity(step.student.logits, other) for other in (step.teacher.logits, *queue[:, None])]
    found = own(step._replace(state={"queue": F.normalize(queue, dim=1)}))
    expected = F.cross_entropy(torch.stack(similar, 1) / 0.2, torch.zeros(BATCH, dtype=torch.long), reduction="none")
    close(found, expected)


def test_the_queue_starts_on_the_sphere_and_takes_the_newest_keys_in_their_order(step: Step) -> None:
    assert step.teacher
    own = make("info_nce", {"queue": 12, "width": CLASSES})
    state = own.start(Address(0, stream="queue"))
    assert torch.equal(own.start(Address(0, stream="queue"))["queue"], state["queue"])
    assert not torch.equal(own.start(Address(1, stream="queue"))["queue"], state["queue"])
    close(state["queue"].norm(dim=1), torch.ones(12))
    keys = F.normalize(step.teacher.logits, dim=1)
    once = own.advance(step._replace(state=state))
    close(once["queue"], torch.cat([state["queue"][BATCH:].double(), keys]), 1e-12)
    twice = own.advance(step._replace(state=once))
    close(twice["queue"], torch.cat([keys, keys])[-12:], 1e-12)


def test_cpc_is_torchs_cross_entropy_among_the_batch(step: Step) -> None:
    pair = step._replace(views=step.views[:1])
    scores = torch.einsum("id,jd->ij", pair.student.logits, pair.views[0].logits)
    close(make("cpc")(pair), F.cross_entropy(scores, torch.arange(BATCH), reduction="none"))


# sums


def test_a_weighted_sum_reports_each_term_unweighted_also_those_of_sums_within_it(step: Step) -> None:
    parts = {name: make(name) for name in ("cross_entropy", "kd", "jensen_shannon")}
    inner = weighted(kd=(3.0, parts["kd"]), views=(lambda s: 2 * s, parts["jensen_shannon"]))
    total, found = weighted(labels=(0.5, parts["cross_entropy"]), both=(2.0, inner)).report(
        step._replace(progress=0.25)
    )
    labels, kd, views = (objective(step) for objective in parts.values())
    assert list(found) == ["labels", "both", "both.kd", "both.views"]
    for name, expected in (("labels", labels), ("both.kd", kd), ("both.views", views), ("both", 3 * kd + 0.5 * views)):
        close(found[name], expected, 1e-12)
    close(total, 0.5 * labels + 6 * kd + views, 1e-12)


def test_a_weighted_sum_keeps_each_terms_state_and_weights_under_its_name(step: Step, maps: Step) -> None:
    moco = make("info_nce", {"queue": 12, "width": CLASSES})
    ab = make("activation_boundary", {"student": "a", "teacher": "b", "connector": nn.Conv2d(3, 4, 3).double()})
    both = weighted(labels=(1.0, make("cross_entropy")), moco=(1.0, moco), ab=(2.0, ab))
    assert both.module is not None
    assert set(dict(both.module.named_parameters())) == {"ab.weight", "ab.bias"}
    assert both.facts.student_features == ("a",)
    assert both.facts.carries == "moco: a queue of earlier keys"
    state = both.start(Address(0, stream="state"))
    assert list(state) == ["moco.queue"]
    said = step._replace(
        student=step.student._replace(features=maps.student.features),
        teacher=Out(step.teacher.logits, maps.teacher.features) if step.teacher and maps.teacher else None,
        state=state,
    )
    queue = {"queue": state["moco.queue"]}
    close(both.report(said)[1]["moco"], moco(said._replace(state=queue)), 1e-12)
    assert torch.equal(both.advance(said)["moco.queue"], moco.advance(said._replace(state=queue))["queue"])


def test_weights_may_change_with_the_training() -> None:
    assert [linear(4, 1)(s) for s in (0.0, 0.5, 1.0)] == [4, 2.5, 1]
    up = ramp_up(8.0, until=0.5)
    assert up(0.0) == pytest.approx(8 * math.exp(-5))
    assert up(0.25) == pytest.approx(8 * math.exp(-1.25))
    assert [up(0.5), up(1.0)] == [8, 8]


def test_unlabelled_is_the_other_half_of_labelled(step: Step) -> None:
    y = torch.where(torch.arange(len(step.y)) % 2 == 0, step.y, -1)
    rows = soft(y, step.student.logits.shape[1])
    for labels in (y, rows):
        halves = [make(n, {"inner": make("mean_teacher")})(step._replace(y=labels)) for n in ("labelled", "unlabelled")]
        torch.testing.assert_close(halves[0] + halves[1], make("mean_teacher")(step))
        assert not (halves[0] * halves[1]).any()
