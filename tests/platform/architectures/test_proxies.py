"""Zero-cost rankers against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from raystill.platform import seeds
from raystill.platform.architectures import parse, space
from raystill.platform.architectures.layers import norm
from raystill.platform.architectures.proxies import COUNTS, PROXIES, grad_norm, naswot, snip, synflow

SHAPE, CLASSES = (2, 8, 8), 3


def drawn(*shape: int, stream: str = "x") -> torch.Tensor:
    return torch.randn(*shape, generator=seeds.torch_rng(seeds.Address(5, stream=stream)), dtype=torch.float64)


def linear(weight: torch.Tensor, bias: bool = True) -> nn.Linear:
    with seeds.fixed_global():
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias).double()
    layer.weight.data = weight.clone()
    return layer


def test_grad_norm_and_snip_of_softmax_regression() -> None:
    """dL/dW = (softmax(W x + b) - onehot(y))^T x / B."""
    weight, x, y = drawn(3, 5, stream="w"), drawn(4, 5), torch.tensor([0, 2, 1, 1])
    layer = linear(weight)
    rest = (x @ weight.T + layer.bias).softmax(1) - nn.functional.one_hot(y, 3)
    g = (rest.T @ x / 4).detach()
    assert grad_norm(layer, x, y) == pytest.approx(float(g.square().sum().sqrt()), rel=1e-12)
    assert snip(layer, x, y) == pytest.approx(float((g * weight).abs().sum()), rel=1e-12)


def test_grad_norm_adds_the_norms_of_layers_and_leaves_norms_out() -> None:
    with seeds.fixed_global():
        network = nn.Sequential(nn.Conv2d(2, 4, 3), norm(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).double()
    x, y = drawn(4, *SHAPE), torch.tensor([0, 1, 2, 0])
    nn.functional.cross_entropy(network(x), y).backward()
    grads = [network[k].weight.grad for k in (0, 4)]
    assert all(isinstance(g, torch.Tensor) for g in grads)
    assert grad_norm(network, x, y) == pytest.approx(sum(float(g.norm()) for g in grads), rel=1e-12)  # type: ignore[union-attr,misc]


@pytest.mark.parametrize("apart", [1, 2, 5])
def test_naswot_of_two_images_is_that_of_their_hamming_distance(apart: int) -> None:
    """K = [[n, n - h], [n - h, n]] for n units of which h differ."""
    n = 6
    for kink in (nn.ReLU(), nn.Tanh()):
        network = nn.Sequential(linear(torch.eye(n).double(), bias=False), kink)
        x = torch.ones(2, n, dtype=torch.float64)
        x[1, :apart] = -1
        found = naswot(network, x, torch.zeros(2))
        assert found == pytest.approx(math.log(n**2 - (n - apart) ** 2), rel=1e-12)
    assert naswot(network, torch.ones(2, n, dtype=torch.float64), torch.zeros(2)) == -math.inf
    assert naswot(nn.Linear(3, 2), torch.ones(2, 3), torch.zeros(2)) == 0.0


def test_synflow_of_a_chain_is_the_sum_over_paths_times_the_layers() -> None:
    """Euler: R is linear in each of L layers, so sum W dR/dW = L R; and R = 1^T |W2| |W1| 1."""
    first, second = drawn(6, 4, stream="1"), drawn(3, 6, stream="2")
    network = nn.Sequential(linear(first), nn.LayerNorm(6), nn.Tanh(), linear(second))
    paths = float((second.abs() @ first.abs()).sum())
    before = [p.clone() for p in network.parameters()]
    assert synflow(network, drawn(2, 4), torch.zeros(2)) == pytest.approx(math.log(2 * paths), rel=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters()))
    second.zero_()
    assert synflow(nn.Sequential(linear(first), linear(second)), drawn(2, 4), torch.zeros(2)) == -math.inf


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("name", ["macro", "cell", "enas"])
def test_every_architecture_has_a_finite_score_and_the_network_is_left_as_it_was(name: str, proxy: str) -> None:
    x, y = drawn(6, *SHAPE).float(), torch.tensor([0, 1, 2, 0, 1, 2])
    for member in range(4):
        network = space(name).sample(seeds.Address(6, member=member)).build(SHAPE, CLASSES)
        expected = network(x)
        score = PROXIES[proxy](network, x, y)
        assert math.isfinite(score)
        assert score == PROXIES[proxy](network, x, y)
        assert torch.equal(network(x), expected)
        assert not any(p.grad is not None for p in network.parameters())


def test_counts_grow_with_the_width() -> None:
    narrow, wide = (parse(f"macro:d2-w{w}-x1-k3-max-group-relu-gap") for w in (4, 8))
    for count in COUNTS.values():
        assert count(narrow, SHAPE, CLASSES) < count(wide, SHAPE, CLASSES)
