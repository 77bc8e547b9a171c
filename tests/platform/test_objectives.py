"""What every objective in the registry must be, and torch's own losses as oracles."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

from raystill.platform import seeds
from raystill.platform.objectives import OBJECTIVES, Objective, Out, Step, soft

each = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
labels = pytest.mark.parametrize("kind", ["ids", "rows"])
BATCH, CLASSES = 6, 4


def drawn(*shape: int, stream: str = "logits") -> Tensor:
    rng = seeds.torch_rng(seeds.Address(1, stream=stream))
    return 3 * torch.randn(*shape, generator=rng, dtype=torch.float64)


def label(kind: str) -> Tensor:
    return torch.arange(BATCH) % CLASSES if kind == "ids" else drawn(BATCH, CLASSES, stream="rows").softmax(1)


def losses(objective: Objective, logits: Tensor, y: Tensor) -> Tensor:
    return objective(Step(torch.empty(len(logits), 0), y, Out(logits)))


@each
@labels
def test_gives_one_finite_loss_per_sample_in_the_logits_precision(objective: Objective, kind: str) -> None:
    for dtype in (torch.float32, torch.float64):
        y = label(kind).to(dtype) if kind == "rows" else label(kind)
        found = losses(objective, drawn(BATCH, CLASSES).to(dtype), y)
        assert found.shape == (BATCH,)
        assert found.dtype == dtype
        assert found.isfinite().all()


@each
@labels
def test_a_sample_does_not_see_its_neighbours(objective: Objective, kind: str) -> None:
    logits, y = drawn(BATCH, CLASSES), label(kind)
    alone = torch.cat([losses(objective, logits[i : i + 1], y[i : i + 1]) for i in range(BATCH)])
    torch.testing.assert_close(alone, losses(objective, logits, y), rtol=1e-12, atol=1e-12)


@each
def test_ids_and_their_one_hot_rows_are_one_thing(objective: Objective) -> None:
    logits, ids = drawn(BATCH, CLASSES), label("ids")
    torch.testing.assert_close(losses(objective, logits, ids), losses(objective, logits, soft(ids, CLASSES).double()))


@each
@labels
def test_is_differentiable_twice(objective: Objective, kind: str) -> None:
    logits, y = drawn(2, CLASSES).requires_grad_(), label(kind)[:2]
    assert torch.autograd.gradgradcheck(lambda z: losses(objective, z, y), logits)
    if kind == "rows":
        rows = y.clone().requires_grad_()
        assert torch.autograd.gradgradcheck(lambda z, p: losses(objective, z, p), (logits, rows))


@each
@labels
def test_works_under_vmap_over_logits_and_over_labels(objective: Objective, kind: str) -> None:
    logits, y = drawn(3, BATCH, CLASSES), label(kind)
    ys = torch.stack([y.roll(j, 0) for j in range(3)])

    def total(z: Tensor, p: Tensor) -> Tensor:
        return losses(objective, z, p).sum()

    for in_dims, rows in (((0, None), [y] * 3), ((0, 0), list(ys))):
        found = vmap(grad(total), in_dims=in_dims)(logits, y if in_dims[1] is None else ys)
        expected = torch.stack([grad(total)(z, p) for z, p in zip(logits, rows)])
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@labels
def test_cross_entropy_is_torchs(kind: str) -> None:
    logits, y = drawn(BATCH, CLASSES), label(kind)
    expected = F.cross_entropy(logits, y, reduction="none")
    torch.testing.assert_close(losses(OBJECTIVES["cross_entropy"], logits, y), expected, rtol=1e-6, atol=1e-6)


def test_cross_entropy_of_rows_that_sum_to_anything_is_linear_in_them() -> None:
    logits, rows = drawn(BATCH, CLASSES), label("rows")
    one, two = (losses(OBJECTIVES["cross_entropy"], logits, z) for z in (rows, -2.5 * rows))
    torch.testing.assert_close(two, -2.5 * one)


def test_squared_error_is_torchs() -> None:
    logits, rows = drawn(BATCH, CLASSES), label("rows")
    expected = 0.5 * F.mse_loss(logits, rows, reduction="none").sum(1)
    torch.testing.assert_close(losses(OBJECTIVES["squared_error"], logits, rows), expected, rtol=1e-12, atol=0)
