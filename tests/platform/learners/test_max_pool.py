"""LeNet's own pooling against torch's, in value and in every derivative that the engine takes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, jvp, vmap

from raystill.platform import seeds
from raystill.platform.learners.networks import MaxPool2

POOL = MaxPool2()


def drawn(*shape: int, ties: bool = False) -> Tensor:
    rng = seeds.torch_rng(seeds.Address(0, stream="maps"))
    # few distinct values, zeros of both signs among them: most windows have several maxima
    return torch.randint(-1, 2, shape, generator=rng) * 0.5 if ties else torch.randn(*shape, generator=rng)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("side", [(2, 2), (6, 8), (7, 5), (10, 10)])
def test_value_and_gradient_have_torchs_bits(side: tuple[int, int], ties: bool) -> None:
    x = drawn(3, 4, *side, ties=ties)
    results = []
    for pool in (POOL, lambda z: F.max_pool2d(z, 2)):
        leaf = x.clone().requires_grad_()
        out = pool(leaf)
        (g,) = torch.autograd.grad(out.square().sum(), leaf)
        results.append((out.detach(), g))
    (own, own_gradient), (torchs, torchs_gradient) = results
    assert torch.equal(own, torchs)
    assert torch.equal(own_gradient, torchs_gradient)


@pytest.mark.parametrize("ties", [False, True])
def test_channels_last_is_the_same(ties: bool) -> None:
    x = drawn(2, 3, 6, 6, ties=ties)
    assert torch.equal(POOL(x.to(memory_format=torch.channels_last)), POOL(x))


@pytest.mark.parametrize("ties", [False, True])
def test_some_channels_of_many_are_the_same(ties: bool) -> None:
    """What vmap makes of one convolution for many students: images whose channels lie apart."""
    x = drawn(2, 9, 6, 8, ties=ties)[:, 3:6]
    assert not x.is_contiguous()
    assert torch.equal(POOL(x), F.max_pool2d(x.contiguous(), 2))


def test_under_vmap_and_jvp_it_is_torchs() -> None:
    x, way = drawn(5, 2, 3, 6, 6).double(), drawn(5, 2, 3, 6, 6).double().flip(0)

    def loss(pool, z: Tensor) -> Tensor:
        return pool(z).pow(3).sum()

    def products(pool) -> Tensor:
        return vmap(lambda z, w: jvp(grad(lambda q: loss(pool, q)), (z,), (w,))[1])(x, way)

    torch.testing.assert_close(products(POOL), products(lambda z: F.max_pool2d(z, 2)), rtol=1e-12, atol=0)


def test_gradgradcheck() -> None:
    assert torch.autograd.gradgradcheck(POOL, drawn(1, 2, 4, 5).double().requires_grad_())
