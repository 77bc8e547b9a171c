"""What every objective in the registry must be: per sample, honest about itself, fit for the engine and for vmap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from raystill.platform.meta.linearise import reverse, stepwise
from raystill.platform.objectives import OBJECTIVES, Facts, Out, Step, make, need_uncoupled, soft, term, weighted

Case = Any  # of conftest.py, which tests can not import from
LABELS = ("cross_entropy", "label_smoothing", "squared_error")
ready = pytest.mark.parametrize("name", LABELS)


def close(found: Any, expected: Any, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_every_objective_has_a_row_of_settings_here(uncovered: set[str]) -> None:
    assert not uncovered


def test_gives_one_finite_loss_per_sample_in_the_logits_precision(
    every: Case, members: Tensor, x: Tensor, y: Tensor
) -> None:
    for dtype in (torch.float64, torch.float32):
        if every.objective.module is not None:
            every.objective.module.to(dtype)
        labels = y.to(dtype) if y.is_floating_point() else y
        found = every.losses(members[0].to(dtype), x.to(dtype), labels)
        assert found.shape == (len(x),)
        assert found.dtype == dtype
        assert found.isfinite().all()


def test_couples_the_samples_of_a_batch_if_and_only_if_it_says_so(every: Case, members: Tensor, x: Tensor) -> None:
    y = torch.arange(len(x)) % 5
    whole = every.losses(members[0], x, y)
    alone = torch.cat(
        [every.losses(members[0], x[i : i + 1], y[i : i + 1], every.other[i : i + 1]) for i in range(len(x))]
    )
    if every.facts.couples:
        assert (alone - whole).abs().max() > 1e-3
        with pytest.raises(ValueError, match=r"^meta\.chunk: this objective couples .*negatives$"):
            need_uncoupled(every.objective, "meta.chunk")
    else:
        close(alone, whole)
        need_uncoupled(every.objective, "meta.chunk")


def test_carries_a_state_if_and_only_if_it_says_so(every: Case, members: Tensor, x: Tensor) -> None:
    y = torch.arange(len(x)) % 5
    assert bool(every.state) == bool(every.facts.carries)
    step = every.step(members[0], x, y)
    after = every.objective.advance(step)
    assert after.keys() == every.state.keys()
    assert all(after[name].shape == value.shape for name, value in every.state.items())
    if every.facts.carries:
        # a batch in chunks: each loss with the state from before the batch, `advance` threaded through the chunks
        parts = [every.step(members[0], x[i : i + 2], y[i : i + 2], every.other[i : i + 2]) for i in (0, 2, 4)]
        close(torch.cat([every.objective(part) for part in parts]), every.objective(step))
        state = step.state
        for part in parts:
            state = every.objective.advance(part._replace(state=state))
        close(dict(state), dict(after))
        with pytest.raises(ValueError, match="state"):
            every.objective(step._replace(state={}))


def test_reads_nothing_that_it_does_not_ask_for_and_misses_what_it_does(
    every: Case, members: Tensor, x: Tensor
) -> None:
    step = every.step(members[0], x, torch.arange(len(x)) % 5)
    facts, said = every.facts, Out(step.student.logits)
    if facts.inputs:
        with pytest.raises(ValueError, match="as functions of x"):
            every.objective(step._replace(outputs=None))
    elif facts.teacher:
        with pytest.raises(ValueError, match="needs a teacher, and none was given"):
            every.objective(step._replace(teacher=None))
    if facts.views:
        with pytest.raises(ValueError, match="views of each sample"):
            every.objective(step._replace(views=()))
    if not facts.inputs and facts.student_features:
        with pytest.raises(ValueError, match="no feature 'hidden'"):
            every.objective(step._replace(student=said))
    if not facts.student_features:
        close(every.objective(step._replace(student=said)), every.objective(step))
    if not facts.labels:
        assert every.objective(step._replace(y=-torch.ones_like(step.y))).isfinite().all()
    assert len(facts.student_features) == len(facts.teacher_features)


def test_is_differentiable_twice(every: Case, members: Tensor, x: Tensor, y: Tensor) -> None:
    theta, few = members[0].clone().requires_grad_(), x[:2].clone().requires_grad_()
    seen = lambda theta, x: every.losses(theta, x, y[:2], every.other[:2])  # noqa: E731
    assert torch.autograd.gradgradcheck(seen, (theta, few))


def test_works_under_vmap_over_students_and_over_labels(every: Case, members: Tensor, x: Tensor, y: Tensor) -> None:
    ys = torch.stack([y.roll(j, 0) for j in range(len(members))])
    gradient = grad(every.total, (0, 1))
    for dims, labels in (((0, None, None), [y] * 3), ((0, None, 0), list(ys))):
        found = vmap(gradient, in_dims=dims)(members, x, y if dims[2] is None else ys)
        expected = [gradient(theta, x, label) for theta, label in zip(members, labels)]
        close(found, tuple(torch.stack(parts) for parts in zip(*expected)))


def test_serves_inside_the_meta_gradient_engine_or_says_why_not(
    every: Case, members: Tensor, x: Tensor, y: Tensor
) -> None:
    """Against finite differences: each of the engine's ways to c -> (dg/d(theta, x, y))^T c."""
    if every.facts.couples or every.facts.carries:
        assert len(every.facts.couples + every.facts.carries) > 20
        return
    theta, c = members[0], members[1]
    loss = lambda theta, x, y: every.losses(theta, x, y).mean()  # noqa: E731
    slope = lambda theta, x, y: grad(loss)(theta, x, y) @ c  # noqa: E731
    g, product = reverse(loss)(theta, x, y)
    found = [part for part in product(c, True) if part is not None]
    for mode in ("reverse", "forward"):
        plain, products = stepwise(loss, mode)
        close(plain(theta, x, y), g)
        close(list(products(theta, c, x, y)), found)
    for at, which in ((theta, 0), (x, 1)):
        direction, h = torch.linspace(-1, 1, at.numel(), dtype=at.dtype).view_as(at), 1e-6
        ends = [[theta, x, y] for _ in range(2)]
        ends[0][which], ends[1][which] = at + h * direction, at - h * direction
        difference = (slope(*ends[0]) - slope(*ends[1])) / (2 * h)
        close((found[which] * direction).sum(), difference, 1e-6)


def test_a_grid_of_settings_is_one_vmap() -> None:
    """Settings as tensors: what a search over temperatures trains at once."""
    z, v, y = (torch.linspace(-2, 3, 20).view(4, 5).double().roll(j, 1) for j in range(3))
    step = Step(z, y.softmax(1), Out(z), Out(v))
    temperatures, alphas = torch.tensor([0.5, 2.0, 8.0]).double(), torch.tensor([0.0, 0.3, 1.0]).double()

    def total(z: Tensor, T: Any, a: Any) -> Tensor:
        return make("hinton", {"temperature": T, "alpha": a, "smoothing": a})(step._replace(student=Out(z))).sum()

    found = vmap(grad(total), in_dims=(None, 0, 0))(z, temperatures, alphas)
    close(found, torch.stack([grad(total)(z, T, a) for T, a in zip(temperatures.tolist(), alphas.tolist())]))


def test_its_own_weights_can_come_with_the_step(with_module: Case, members: Tensor, x: Tensor) -> None:
    objective, step = with_module.objective, with_module.step(members[0], x, torch.arange(len(x)) % 5)
    own = {key: value.detach().clone() for key, value in objective.module.named_parameters()}
    before = objective(step)
    close(objective(step._replace(parameters=own)), before)
    moved = objective(step._replace(parameters={key: 2 * value for key, value in own.items()}))
    assert (moved - before).abs().max() > 1e-3
    with torch.no_grad():
        for p in objective.module.parameters():
            p.mul_(2)
    close(objective(step), moved)
    # and they learn
    assert all(g.any() for g in torch.autograd.grad(objective(step).sum(), list(objective.module.parameters())))


@ready
def test_what_a_spec_can_name_needs_labels_alone(name: str) -> None:
    assert term(make(name)).facts == term(make("cross_entropy")).facts
    assert term(make(name)).facts == Facts(labels=True)


@ready
def test_ids_and_their_one_hot_rows_are_one_thing(name: str, draw: Callable[..., Tensor]) -> None:
    z, ids = draw(6, 4, stream="logits"), torch.arange(6) % 4
    losses = [make(name)(Step(z, y, Out(z))) for y in (ids, soft(ids, 4).double())]
    close(losses[0], losses[1])


@ready
def test_a_ready_objective_is_differentiable_twice_by_its_label_rows(name: str, draw: Callable[..., Tensor]) -> None:
    z, rows = (draw(2, 4, stream=s).requires_grad_() for s in ("logits", "rows"))
    assert torch.autograd.gradgradcheck(lambda z, p: make(name)(Step(z, p, Out(z))), (z, rows))


def test_a_plain_function_is_an_objective_that_declares_nothing_unless_it_does() -> None:
    def plain(step: Step) -> Tensor:
        return step.student.logits.square().sum(1)

    assert not any(term(plain).facts)
    assert term(weighted(own=(1.0, plain))).facts.couples == ""
    plain.facts = term(make("nt_xent")).facts  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"^run: this objective couples the samples of a batch"):
        need_uncoupled(plain, "run")
    with pytest.raises(ValueError, match=r"^run: .*: own: the other samples"):
        need_uncoupled(weighted(own=(1.0, plain)), "run")


def test_the_documentation_lists_the_registry_and_what_each_declares(every: Case) -> None:
    page = (Path(__file__).parents[3] / "docs" / "guides" / "objectives.md").read_text()
    table = page.partition("| name | per sample |")[2].partition("\n\n")[0]
    rows = {row.split("`")[1]: row.split("|")[1:-1] for row in table.splitlines() if row.startswith("| `")}
    assert list(rows) == list(OBJECTIVES)
    couples, carries = (cell.strip() for cell in rows[every.name][-2:])
    if not couples.startswith("as"):
        assert couples.startswith("yes") == bool(every.facts.couples)
        assert carries.startswith("yes") == bool(every.facts.carries)
