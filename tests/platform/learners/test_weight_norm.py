"""Weight normalisation against torch's own, and as an option of every learner."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import grad, vmap

from raystill.platform import learners, seeds
from raystill.platform.learners.networks import NETWORKS
from raystill.platform.learners.weight_norm import DIRECTION, LENGTH, weight_normed
from raystill.platform.objectives import Out, Step, make
from raystill.platform.spec import LearnerSpec

SHAPE, CLASSES = (2, 12, 12), 3
WIDTHS = {"linear": None, "mlp": 6, "lenet": 3, "alexnet": 2, "convnet": 4, "resnet": 2, "strips": 3}


def drawn(*shape: int, stream: str) -> torch.Tensor:
    return torch.randn(*shape, generator=seeds.torch_rng(seeds.Address(3, stream=stream)), dtype=torch.float64)


@pytest.mark.parametrize("make", [lambda: nn.Linear(5, 4), lambda: nn.Conv2d(2, 3, 3)], ids=["linear", "conv"])
def test_equals_torchs_own_and_so_do_its_gradients(make: object) -> None:
    with seeds.fixed_global():
        ours, theirs = weight_normed(make().double()), nn.utils.parametrizations.weight_norm(make().double())
    names = [name for name, _ in theirs.named_parameters()]
    assert [name for name, _ in ours.named_parameters()] == names == ["bias", LENGTH, DIRECTION]
    for name in names:  # other numbers than those of the start, where W = V
        value = drawn(*theirs.get_parameter(name).shape, stream=name)
        ours.get_parameter(name).data.copy_(value)
        theirs.get_parameter(name).data.copy_(value)
    x = drawn(2, 5, stream="x") if isinstance(ours, nn.Linear) else drawn(2, 2, 4, 4, stream="x")
    torch.testing.assert_close(ours.weight, theirs.weight)
    found, expected = (
        torch.autograd.grad(layer(x).square().sum(), list(layer.parameters())) for layer in (ours, theirs)
    )
    torch.testing.assert_close(found, expected)


def test_lengths_are_lengths_and_the_function_stays() -> None:
    with seeds.fixed_global():
        plain = nn.Linear(6, 4)
        plain.weight.data[2] = 0.0
    x, y = torch.ones(1, 6), plain(torch.ones(1, 6))
    torch.testing.assert_close(plain.weight.norm(dim=1), weight_normed(plain).get_parameter(LENGTH).flatten())
    torch.testing.assert_close(plain(x), y)
    assert all(bool(z.isfinite().all()) for z in torch.autograd.grad(plain(x).sum(), list(plain.parameters())))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scheme", ["xavier", "default"])
def test_starts_as_the_plain_learner_does(name: str, scheme: str) -> None:
    """Same scheme: lengths are those of the directions, and biases are drawn as beside plain weights."""
    learner = learners.build(
        LearnerSpec(name=name, width=WIDTHS[name], init=scheme, weight_norm=True), SHAPE, CLASSES
    )  # fmt: skip
    theta = learner.init(seeds.Address(1))
    assert torch.equal(theta, learner.init(seeds.Address(1)))
    module = learner.load(theta)
    weights = dict(module.named_parameters())
    lengths = {name: g for name, g in weights.items() if name.endswith(LENGTH)}
    assert lengths
    for key, g in lengths.items():
        layer = key[: -len(LENGTH)]
        v = weights[layer + DIRECTION]
        torch.testing.assert_close(g.flatten(), v.flatten(1).norm(dim=1))
        torch.testing.assert_close(module.get_submodule(layer[:-1]).weight, v)
        bias = weights.get(f"{layer}bias")
        assert bias is None or bool(bias.any()) == (scheme == "default")


@pytest.mark.parametrize("name", NETWORKS)
def test_is_differentiable_twice_and_under_vmap(name: str) -> None:
    learner = learners.build(LearnerSpec(name=name, width=WIDTHS[name], weight_norm=True), SHAPE, CLASSES)
    theta = torch.stack([learner.init(seeds.Address(1, member=j)).double() for j in range(2)])
    x, y, way = drawn(2, *SHAPE, stream="x"), torch.tensor([0, 2]), drawn(learner.size, stream="way")

    def loss(t: torch.Tensor) -> torch.Tensor:
        return make("cross_entropy")(Step(x, y, Out(learner.apply(t, x)))).mean()

    products = vmap(lambda t: torch.func.jvp(grad(loss), (t,), (way,))[1])(theta)
    for t, product in zip(theta, products):
        leaf = t.clone().requires_grad_()
        (g,) = torch.autograd.grad(loss(leaf), leaf, create_graph=True)
        torch.testing.assert_close(product, torch.autograd.grad(g @ way, leaf)[0], rtol=1e-9, atol=1e-12)


def test_what_has_no_weights_to_normalise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"learner\.weight_norm: GroupNorm has no linear map or convolution"):
        weight_normed(nn.GroupNorm(1, 2))
