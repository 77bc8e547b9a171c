"""The outer optimiser against torch's, and its schedules against their formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from raystill.platform import seeds
from raystill.platform.outer import step as outer
from raystill.platform.spec import OuterSpec

GROUPS = {"images": "lr", "labels": "label_lr", "lr": "rate_lr"}
SHAPES = {"images": (3, 4), "labels": (2, 5), "lr": (6,), "fixed": (2,)}


def spec(**changes: Any) -> OuterSpec:
    plain = {"schedule": "constant", "clip": None, "lr": 0.02, "label_lr": 0.03, "rate_lr": 0.005}
    return OuterSpec(**{**plain, **changes})


def arrays(stream: str, dtype: Any = np.float64) -> dict[str, np.ndarray]:
    rng = seeds.numpy_rng(seeds.Address(0, stream=stream))
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}


def gradients(step: int, factor: float = 1.0) -> dict[str, np.ndarray]:
    return {k: factor * v for k, v in arrays(f"gradient {step}").items() if k in GROUPS}


def norm(values: dict[str, np.ndarray]) -> float:
    return math.sqrt(sum(float((v**2).sum()) for v in values.values()))


def apply(given: OuterSpec, state: outer.OuterState, values: dict[str, np.ndarray]) -> tuple[outer.OuterState, Any]:
    return outer.apply(given, GROUPS, state, values, norm(values))


def run(given: OuterSpec, steps: int, factor: float = 1.0) -> outer.OuterState:
    state = outer.init(spec(), arrays("start", np.float32))
    for t in range(steps):
        state, _ = apply(given, state, gradients(t, factor))
    return state


def test_is_torchs_adam() -> None:
    found = run(spec(), 7)
    start = arrays("start", np.float32)
    leaves = {k: torch.tensor(v, dtype=torch.float64, requires_grad=True) for k, v in start.items()}
    rates = {"images": 0.02, "labels": 0.03, "lr": 0.005}
    adam = torch.optim.Adam([{"params": [leaves[k]], "lr": r} for k, r in rates.items()], betas=(0.5, 0.999), eps=1e-8)
    for t in range(7):
        for k, g in gradients(t).items():
            leaves[k].grad = torch.from_numpy(g)
        adam.step()
    for name, leaf in leaves.items():
        np.testing.assert_allclose(found.meta[name], leaf.detach().numpy(), rtol=0, atol=1e-6)
    assert found.step == 7
    assert np.array_equal(found.meta["fixed"], start["fixed"])
    assert {v.dtype for part in (found.meta, *found.memory.values(), found.average) for v in part.values()} == {
        np.dtype(np.float32)
    }


def test_a_step_changes_nothing_that_it_was_given() -> None:
    state = outer.init(spec(), arrays("start", np.float32))
    before = {k: v.copy() for k, v in state.meta.items()}
    given = gradients(0)
    kept = {k: v.copy() for k, v in given.items()}
    apply(spec(clip=0.1), state, given)
    assert state.step == 0
    assert all(np.array_equal(state.meta[k], before[k]) for k in before)
    assert all(np.array_equal(given[k], kept[k]) for k in kept)
    assert not any(v.any() for v in state.memory["first"].values())


def test_the_rates_follow_their_schedule() -> None:
    assert [outer.schedule(spec(), t) for t in (0, 100, 10_000)] == [1, 1, 1]
    decay = spec(schedule="decay", decay_every=10, decay_factor=0.5)
    assert [outer.schedule(decay, t) for t in (0, 9, 10, 19, 20, 35)] == [1, 1, 0.5, 0.5, 0.25, 0.125]
    cosine = spec(schedule="cosine", steps=100, final=0.02)
    assert outer.schedule(cosine, 0) == 1
    assert outer.schedule(cosine, 50) == pytest.approx(0.51)
    assert outer.schedule(cosine, 25) == pytest.approx(0.02 + 0.98 * (2 + math.sqrt(2)) / 4)
    assert outer.schedule(cosine, 100) == pytest.approx(0.02)
    warm = spec(warmup=4)
    assert [outer.schedule(warm, t) for t in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    both = spec(schedule="decay", decay_every=2, decay_factor=0.5, warmup=4)
    assert [outer.schedule(both, t) for t in range(5)] == [0.25, 0.5, 0.375, 0.5, 0.25]


@pytest.mark.parametrize("schedule", ["constant", "decay", "cosine"])
def test_the_factor_multiplies_every_rate(schedule: str) -> None:
    given = spec(schedule=schedule, steps=4, decay_every=1, decay_factor=0.25)
    state = run(given, 2)
    after, applied = apply(given, state, gradients(2))
    scaled = {f: getattr(given, f) * outer.schedule(given, 2) for f in ("lr", "label_lr", "rate_lr")}
    plain, _ = apply(spec(**scaled), state, gradients(2))
    assert applied.rate == outer.schedule(given, 2)
    for name in GROUPS:
        np.testing.assert_allclose(after.meta[name], plain.meta[name], rtol=1e-6)


def test_the_norm_is_clipped_over_all_parts_together() -> None:
    size = norm(gradients(0))
    start = outer.init(spec(), arrays("start", np.float32))
    clipped, applied = apply(spec(clip=size / 10), start, gradients(0))
    assert applied.gradient_norm == pytest.approx(size)
    for name, g in gradients(0).items():
        np.testing.assert_allclose(clipped.memory["first"][name], 0.5 * g / 10, rtol=1e-6)
    untouched, _ = apply(spec(clip=size * 10), start, gradients(0))
    for name, g in gradients(0).items():
        np.testing.assert_allclose(untouched.memory["first"][name], 0.5 * g, rtol=1e-6)


def test_a_spiking_chunk_is_clipped_by_itself() -> None:
    given = spec(clip_relative=2.0)
    chunks = [gradients(0), gradients(1, 1000.0)]
    norms = [norm(chunk) for chunk in chunks]
    usual = norms[0]
    factors, running = outer.adaptive_clipping(given, 0.0, [usual])
    assert running == pytest.approx(usual)
    assert factors == [1.0]
    factors, running = outer.adaptive_clipping(given, usual, norms)
    assert factors[0] == 1.0
    assert [f * norm(c) for f, c in zip(factors, chunks)] == pytest.approx([usual, 2 * usual])
    summed = outer.reduce(chunks, 2, factors)
    for name in GROUPS:
        np.testing.assert_allclose(summed[name], (chunks[0][name] + factors[1] * chunks[1][name]) / 2, rtol=1e-9)
    # a spike enters the running norm as 1.5 times the bound, not as itself
    assert running == pytest.approx(0.98 * usual + 0.02 * (usual + 3 * usual) / 2)
    assert outer.adaptive_clipping(spec(clip_relative=None), 0.0, norms) == ([1.0, 1.0], 0.0)


def test_a_dead_chunk_before_the_first_step_does_not_silence_the_others() -> None:
    given, alive = spec(clip_relative=2.0), norm(gradients(0))
    factors, running = outer.adaptive_clipping(given, 0.0, [0.0, alive])
    assert running > 0
    assert factors == [1.0, pytest.approx(1.0)]
    assert outer.adaptive_clipping(given, 0.0, [0.0])[1] == 0


def test_the_average_is_exponential_and_starts_short() -> None:
    given = spec(ema=0.5)
    state, expected = outer.init(spec(), arrays("start", np.float32)), arrays("start", np.float32)
    for t in range(20):
        state, _ = apply(given, state, gradients(t))
        decay = min(0.5, (t + 1) / (t + 11))
        expected = {k: decay * expected[k] + (1 - decay) * state.meta[k] for k in expected}
    for name in GROUPS:
        np.testing.assert_allclose(state.average[name], expected[name], rtol=1e-5, atol=1e-7)
    last = run(spec(ema=0.0), 3)
    assert all(np.array_equal(last.average[k], last.meta[k]) for k in GROUPS)


def test_chunks_are_summed_in_float64_in_their_order() -> None:
    chunks = [{"images": np.array([v], np.float32)} for v in (1e8, 1.0, -1e8, 1.0)]
    found = outer.reduce(chunks, 4)["images"]
    assert found.dtype == np.float64
    assert found.tolist() == [0.5]  # in float32 the ones would be lost
    assert all(c["images"].dtype == np.float32 for c in chunks)


def test_the_order_of_arrival_changes_no_bit_once_chunks_are_back_in_order() -> None:
    chunks = {n: {k: v.astype(np.float32) for k, v in gradients(n, 10.0 ** (n % 5)).items()} for n in range(8)}
    arrived = {n: chunks[n] for n in (3, 1, 7, 0, 2, 6, 5, 4)}
    first, second = outer.reduce([chunks[n] for n in range(8)], 16), outer.reduce([arrived[n] for n in range(8)], 16)
    assert all(first[k].tobytes() == second[k].tobytes() for k in GROUPS)
    for name in GROUPS:
        exact = [math.fsum(float(c[name].flat[i]) for c in chunks.values()) / 16 for i in range(first[name].size)]
        np.testing.assert_allclose(first[name].ravel(), exact, rtol=1e-14)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", GROUPS)
def test_nothing_is_applied_of_a_gradient_that_is_not_finite(name: str, bad: float) -> None:
    state = run(spec(ema=0.9), 2)
    kept = {k: (state.meta[k].copy(), state.memory["first"][k].copy(), state.average[k].copy()) for k in GROUPS}
    broken = gradients(2)
    broken[name].flat[-1] = bad
    with pytest.raises(FloatingPointError, match="outer step 2 is not finite"):
        apply(spec(ema=0.9), state, broken)
    assert state.step == 2
    for k, (meta, first, average) in kept.items():
        assert np.array_equal(state.meta[k], meta)
        assert np.array_equal(state.memory["first"][k], first)
        assert np.array_equal(state.average[k], average)


def test_a_gradient_whose_square_leaves_float32_is_refused_as_well() -> None:
    """Its second moment would be inf for ever, and the parameter would never move again."""
    with pytest.raises(FloatingPointError, match="outer step 0"):
        apply(spec(), outer.init(spec(), arrays("start", np.float32)), gradients(0, 1e25))


def test_each_cycle_is_twice_as_long_as_the_one_before() -> None:
    """Oracle: torch's CosineAnnealingWarmRestarts with T_mult 2."""
    given = spec(schedule="cosine", steps=70, cycles=3, final=0.1)
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimiser, T_0=10, T_mult=2, eta_min=0.1)
    for step in range(70):
        assert outer.schedule(given, step) == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()


def test_an_unknown_optimiser_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^outer\.optimiser: unknown 'adm'; did you mean 'adam'\? valid: adam$"):
        outer.init(spec(optimiser="adm"), arrays("start", np.float32))
