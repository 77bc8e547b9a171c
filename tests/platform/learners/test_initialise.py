"""Initial weights against the formula of each scheme."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from raystill.platform import learners, seeds
from raystill.platform.spec import LearnerSpec

LINEAR, CONV = nn.Linear(300, 200), nn.Conv2d(20, 40, 5)
# fan-in and fan-out of each, by Glorot & Bengio (2010)
FANS = {LINEAR: (300, 200), CONV: (20 * 25, 40 * 25)}


def parts(module: nn.Module, scheme: str, gain: float = 1.0) -> dict[str, Tensor]:
    learner = learners.wrap(module, scheme, gain)
    sizes = {name: p.shape for name, p in module.named_parameters()}
    flat = learner.init(seeds.Address(9, stream="theta0")).split([s.numel() for s in sizes.values()])
    return {name: z.view(shape) for (name, shape), z in zip(sizes.items(), flat)}


@pytest.mark.parametrize("gain", [1.0, 0.5])
@pytest.mark.parametrize("module", [LINEAR, CONV], ids=["linear", "conv"])
@pytest.mark.parametrize("scheme", ["xavier", "kaiming", "normal", "default"])
def test_weights_have_the_schemes_spread(scheme: str, module: nn.Module, gain: float) -> None:
    fan_in, fan_out = FANS[module]
    std = {
        "xavier": math.sqrt(2 / (fan_in + fan_out)),
        "kaiming": math.sqrt(2 / fan_in),
        "normal": 0.02,
        "default": 1 / math.sqrt(3 * fan_in),
    }[scheme]
    weight = parts(module, scheme, gain)["weight"]
    error = 1 / math.sqrt(2 * weight.numel())  # of a standard deviation's estimate, in units of itself
    assert weight.std().item() == pytest.approx(gain * std, rel=5 * error)
    assert abs(weight.mean().item()) < 5 * gain * std / math.sqrt(weight.numel())
    # the shape of the distribution: a normal one's kurtosis is 3, a uniform one's 1.8
    kurtosis = ((weight / weight.std()) ** 4).mean().item()
    assert kurtosis == pytest.approx(1.8 if scheme == "default" else 3.0, abs=0.15)


@pytest.mark.parametrize("scheme", ["xavier", "kaiming", "normal", "orthogonal"])
def test_biases_are_zero(scheme: str) -> None:
    assert not parts(LINEAR, scheme)["bias"].any()


def test_default_biases_are_uniform_as_torchs_own() -> None:
    bias, bound = parts(LINEAR, "default", 0.5)["bias"], 1 / math.sqrt(300)
    assert 0.9 * bound < bias.abs().max().item() <= bound
    assert bias.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.25)


def test_orthogonal_rows_are_orthonormal_up_to_the_gain() -> None:
    weight = parts(LINEAR, "orthogonal", 2.0)["weight"]
    torch.testing.assert_close(weight @ weight.T, 4 * torch.eye(200), rtol=0, atol=1e-4)
    kernel = parts(CONV, "orthogonal")["weight"].flatten(1)
    torch.testing.assert_close(kernel @ kernel.T, torch.eye(40), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scheme", ["xavier", "kaiming", "normal", "orthogonal", "default"])
def test_scales_and_shifts_of_norms_keep_their_identity(scheme: str) -> None:
    found = parts(nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4)), scheme)
    assert torch.equal(found["1.weight"], torch.ones(4))
    assert torch.equal(found["1.bias"], torch.zeros(4))


def test_the_template_has_no_say_in_what_is_drawn() -> None:
    spec = LearnerSpec(name="mlp", width=5)
    first, second = (learners.build(spec, (1, 3, 3), 2) for _ in range(2))
    with torch.no_grad():
        for p in second.module.parameters():
            p.fill_(float("nan"))
    assert torch.equal(first.init(seeds.Address(0)), second.init(seeds.Address(0)))
