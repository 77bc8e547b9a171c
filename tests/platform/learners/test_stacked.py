"""Many networks as one, against the networks one by one: logits and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raystill.platform import learners
from raystill.platform.learners import NETWORKS
from raystill.platform.learners.networks import without_patches
from raystill.platform.learners.stacked import stacked
from raystill.platform.seeds import Address, torch_rng
from raystill.platform.spec import LearnerSpec

WIDTHS = {"linear": None, "mlp": 5, "lenet": 6, "convnet": 4}
WITHOUT_RULES = {"alexnet", "resnet", "strips"}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("seeds", "count"), [(1, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("name", WIDTHS)
def test_all_at_once_are_each_by_itself(name: str, seeds: int, count: int, channels: int) -> None:
    learner = learners.build(LearnerSpec(name=name, width=WIDTHS[name]), (channels, 12, 14), 4)
    theta = torch.stack([
        torch.stack([learner.init(Address(s, member=i)) for i in range(count)]) for s in range(seeds)
    ])  # fmt: skip
    theta += 0.1 * torch.randn(theta.shape, generator=torch_rng(Address(1)))  # biases that are not zero
    x = torch.randn(seeds, 5, channels, 12, 14, generator=torch_rng(Address(2)))
    weights = torch.randn(seeds, count, 5, 4, generator=torch_rng(Address(3)))

    def both(found: Tensor, leaf: Tensor) -> tuple[Tensor, Tensor]:
        return found.detach(), torch.autograd.grad((found * weights).sum(), leaf)[0]

    whole = stacked(learner.module)
    assert whole is not None
    leaf = theta.clone().requires_grad_()
    logits, gradient = both(whole(leaf, x), leaf)
    assert logits.shape == (seeds, count, 5, 4)
    one = theta.clone().requires_grad_()
    each = torch.stack([torch.stack([learner.apply(t, x[s]) for t in row]) for s, row in enumerate(one)])
    expected, slope = both(each, one)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, slope, rtol=1e-4, atol=1e-4)
    without_patches(learner.module)
    torch.testing.assert_close(whole(theta, x), expected, rtol=1e-4, atol=1e-5)


def test_every_network_has_rules_or_is_left_to_vmap() -> None:
    images = {n for n in NETWORKS if n in {*WIDTHS, *WITHOUT_RULES}}
    for name in images:
        module = learners.build(LearnerSpec(name=name), (1, 16, 16), 4).module
        assert (stacked(module) is None) == (name in WITHOUT_RULES)


@pytest.mark.parametrize("name", WIDTHS)
def test_normed_weights_are_left_to_vmap(name: str) -> None:
    spec = LearnerSpec(name=name, width=WIDTHS[name], weight_norm=True)
    assert stacked(learners.build(spec, (1, 16, 16), 4).module) is None
