"""Teachers against their formulas, torch's moving average, and what they must say of themselves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from raystill.platform import seeds
from raystill.platform.objectives import Out, Step, make
from raystill.platform.students.augmentations import Context
from raystill.platform.students.features import changed, see
from raystill.platform.students.teachers import (
    WRAPPERS,
    Teacher,
    TeacherContext,
    ema,
    ensemble,
    frozen,
    noisy,
    own,
    sharpened,
    teacher,
    tta,
    virtual,
)

AT = seeds.Address(3, stream="teacher")
K = 4


def network(member: int = 0) -> nn.Module:
    with seeds.global_at(AT.at(member=member)):
        return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, K))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(7, 6, generator=seeds.torch_rng(AT))


@pytest.fixture
def y() -> Tensor:
    return torch.arange(7) % K


def test_a_frozen_teacher_answers_as_it_did_and_leaves_the_network_alone(x: Tensor, y: Tensor) -> None:
    model = network()
    teacher = frozen(model, ["1"])
    before = teacher(x, y, AT)
    assert torch.equal(before.logits, model(x))
    assert torch.equal(before.features["1"], model[:2](x))
    with torch.no_grad():
        model[0].weight.add_(1)
    assert torch.equal(teacher(x, y, AT).logits, before.logits)
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in teacher.module.parameters())
    assert not teacher.changes
    assert not model[1]._forward_hooks


def test_it_is_the_loop_that_stops_gradients(x: Tensor, y: Tensor) -> None:
    logits = frozen(network())(x.requires_grad_(), y, AT).logits
    assert torch.autograd.grad(logits.sum(), x)[0].abs().sum() > 0


def test_a_feature_path_that_does_not_exist_names_the_nearest() -> None:
    model = nn.Sequential()
    model.add_module("features", nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=r"no module 'feature\.0'; did you mean 'features\.0'"):
        frozen(model, ["feature.0"])


@pytest.mark.parametrize("T", [1.0, 4.0])
def test_an_ensemble_is_the_geometric_mean_at_every_temperature(x: Tensor, y: Tensor, T: float) -> None:
    found = ensemble([frozen(network(i)) for i in range(3)])(x, y, AT).logits / T
    logs = torch.stack([F.log_softmax(network(i)(x) / T, 1) for i in range(3)]).mean(0)
    torch.testing.assert_close(F.softmax(found, 1), F.softmax(logs, 1))


def test_or_the_arithmetic_mean_of_probabilities(x: Tensor, y: Tensor) -> None:
    found = ensemble([frozen(network(i)) for i in range(3)], "probabilities")(x, y, AT).logits
    mean = torch.stack([F.softmax(network(i)(x), 1) for i in range(3)]).mean(0)
    torch.testing.assert_close(F.softmax(found, 1), mean)


def test_noise_is_relative_to_the_logits_of_a_share_of_the_samples_and_drawn_at_the_address(y: Tensor) -> None:
    x = torch.randn(4000, 6, generator=seeds.torch_rng(AT))
    clean, teacher = frozen(network()), noisy(frozen(network()), sigma=0.5, share=0.25)
    v, disturbed = clean(x, y, AT).logits, teacher(x, y, AT).logits
    touched = (disturbed != v).any(1)
    assert abs(touched.float().mean() - 0.25) < 0.03
    xi = (disturbed / v - 1)[touched]
    assert abs(xi.std() - 0.5) < 0.02
    assert abs(xi.mean()) < 0.02
    assert torch.equal(teacher(x, y, AT).logits, disturbed)
    assert not torch.equal(teacher(x, y, AT.at(step=1)).logits, disturbed)
    assert teacher.changes


def test_no_noise_is_the_teacher_itself(x: Tensor, y: Tensor) -> None:
    assert torch.equal(noisy(frozen(network()), sigma=0.0)(x, y, AT).logits, network()(x))
    assert torch.equal(noisy(frozen(network()), share=0.0)(x, y, AT).logits, network()(x))


def test_a_virtual_teacher_is_the_papers_distribution_softened(x: Tensor, y: Tensor) -> None:
    p = torch.full((7, K), 0.1 / 3).scatter(1, y[:, None], 0.9)
    logits = virtual(K, 0.9)(x, y, AT).logits
    torch.testing.assert_close(F.softmax(logits, 1), p)
    softened = p ** (1 / 20)
    torch.testing.assert_close(F.softmax(logits / 20, 1), softened / softened.sum(1, keepdim=True))
    # 1909.11723, eq. 7: at temperature 1 the whole is label smoothing, up to a constant of the student's
    z = torch.randn(7, K, generator=seeds.torch_rng(AT)).requires_grad_()
    step = Step(x, y, Out(z), Out(logits))
    reg = torch.autograd.grad(make("hinton", {"temperature": 1, "alpha": 0.6})(step).sum(), z, retain_graph=True)[0]
    smoothing = 0.6 * 0.1 * K / (K - 1)
    ls = torch.autograd.grad(make("cross_entropy", {"smoothing": smoothing})(step).sum(), z)[0]
    torch.testing.assert_close(reg, ls)


def test_a_moving_average_is_torchs_own(x: Tensor, y: Tensor) -> None:
    student = network()
    teacher = ema(student, 0.9, warm=False)
    oracle = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    oracle.update_parameters(student)  # the first only copies
    for step in range(5):
        with torch.no_grad():
            for p in student.parameters():
                p.add_(0.1 * (step + 1))
        assert teacher.update
        teacher.update(student, step + 1)
        oracle.update_parameters(student)
    torch.testing.assert_close(teacher(x, y, AT).logits, oracle(x))


def test_a_moving_average_in_closed_form() -> None:
    student = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        student.weight.fill_(0.0)
    plain, warm = ema(student, 0.75, warm=False), ema(student, 0.75)
    for step in range(1, 7):
        with torch.no_grad():
            student.weight.fill_(float(step))
        for average in (plain, warm):
            assert average.update
            average.update(student, step)
    closed = sum(0.25 * 0.75 ** (6 - s) * s for s in range(1, 7))
    assert plain.module.weight.item() == pytest.approx(closed, rel=1e-6)
    # warm: m = 1 - 1 / (s + 1) is the plain mean of what was seen until m reaches 0.75 at s = 3
    value = (0 + 1 + 2 + 3) / 4
    for s in range(4, 7):
        value = 0.75 * value + 0.25 * s
    assert warm.module.weight.item() == pytest.approx(value, rel=1e-6)


def test_tta_is_the_mean_of_its_views_logits(x: Tensor, y: Tensor) -> None:
    transforms = [lambda x, at: x, lambda x, at: x.flip(1), lambda x, at: 2 * x]
    teacher = tta(frozen(network()), transforms)
    mean = (network()(x) + network()(x.flip(1)) + network()(2 * x)) / 3
    torch.testing.assert_close(teacher(x, y, AT).logits, mean)
    assert not teacher.changes
    p = torch.stack([F.softmax(network()(v(x, AT)), 1) for v in transforms]).mean(0)
    torch.testing.assert_close(F.softmax(tta(frozen(network()), transforms, "probabilities")(x, y, AT).logits, 1), p)


def test_a_teacher_of_ones_own_has_settings_and_may_go_around_another(x: Tensor, y: Tensor) -> None:
    def certain(context: TeacherContext, of: int) -> Teacher:
        return Teacher(lambda x, y, address: Out(F.one_hot(torch.full((len(x),), of), K).float()))

    def doubled(context: TeacherContext, inner: Teacher, by: float = 2.0) -> Teacher:
        return Teacher(lambda x, y, address: Out(by * inner(x, y, address).logits))

    plugins = {"teachers": {"certain": certain, "doubled": doubled}}
    context = TeacherContext(
        network(), {}, Context(K, torch.zeros(1), torch.ones(1), network()), (), (1, 1, 6), plugins
    )
    made = teacher({"certain": {"of": 1}, "doubled": {}}, context)
    assert made
    assert made(x, y, AT).logits.tolist() == [[0.0, 2.0, 0.0, 0.0]] * len(x)
    with pytest.raises(ValueError, match=r"teacher.doubled: no setting 'bye'; did you mean 'by'"):
        teacher({"certain": {"of": 1}, "doubled": {"bye": 1}}, context)
    with pytest.raises(ValueError, match=r"teacher: unknown 'certan'; did you mean 'certain'"):
        teacher({"certan": {}}, context)


def test_small_moves_do_not_wrap_around() -> None:
    x, y = torch.zeros(1, 1, 4, 4), torch.zeros(1, dtype=torch.int64)
    x[..., 0] = 1.0  # the left column; wrapped around, it would come in at the right
    last_column = Teacher(lambda x, y, address: Out(x[:, 0, :, 3]))
    module = nn.Identity()
    context = TeacherContext(module, {}, Context(4, torch.zeros(1), torch.ones(1), module), (), (1, 4, 4))
    assert torch.equal(WRAPPERS["tta"](context, last_column)(x, y, AT).logits, torch.zeros(1, 4))


def test_sharpening_is_mixmatchs(x: Tensor, y: Tensor) -> None:
    p = F.softmax(network()(x), 1)
    q = p**2 / (p**2).sum(1, keepdim=True)
    torch.testing.assert_close(sharpened(frozen(network()), 0.5)(x, y, AT).logits.exp(), q)


def test_the_own_teacher_is_the_student_as_it_learns(x: Tensor, y: Tensor) -> None:
    student = network()
    teacher = own(student)
    with torch.no_grad():
        student[2].bias.add_(3)
    assert torch.equal(teacher(x, y, AT).logits, student(x))
    assert teacher.changes


def test_what_a_module_puts_out_can_be_changed_and_is_then_as_before(x: Tensor) -> None:
    model = network()
    with changed(model, {"1": lambda h: 0 * h}):
        torch.testing.assert_close(model(x), model[2].bias.expand(7, K))
    assert torch.equal(see(model)(x).logits, network()(x))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda t: noisy(t, sigma=-1), r"teacher.noisy.sigma: -1 is not at least 0"),
        (lambda t: noisy(t, share=2), r"teacher.noisy.share: 2 is not between 0 and 1"),
        (lambda t: virtual(1), r"teacher.virtual: 1 classes"),
        (lambda t: virtual(4, 0.2), r"teacher.virtual.confidence: 0.2 is not between 1/4 and 1"),
        (lambda t: ema(network(), 1.5), r"teacher.ema.decay: 1.5 is not between 0 and 1"),
        (lambda t: ensemble([]), r"teacher.ensemble: needs at least one"),
        (lambda t: tta(t, []), r"teacher.tta: needs at least one transform"),
        (lambda t: sharpened(t, 0), r"teacher.sharpened.temperature: 0 is not above 0"),
    ],
)
def test_wrong_settings_are_one_line(wrong, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=says):
        wrong(frozen(network()))
