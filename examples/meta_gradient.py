"""The engine alone: the gradient of a training run with respect to its training data, checked by a difference."""

import torch

from raystill.platform import meta, seeds

g = seeds.torch_rng(seeds.Address(0))
x = torch.randn(20, 5, 3, generator=g, dtype=torch.float64, requires_grad=True)  # 20 steps of 5 examples
y = torch.randn(20, 5, generator=g, dtype=torch.float64)
lr = torch.full((20,), 0.1, dtype=torch.float64, requires_grad=True)
real_x, real_y = torch.randn(50, 3, generator=g, dtype=torch.float64), torch.randn(50, generator=g, dtype=torch.float64)


def total(theta, x, y):
    """Sum of squared errors of a linear model."""
    return (x @ theta - y).square().sum()


engine = meta.make_engine(lambda theta, x, y: total(theta, x, y) / len(y))
outer_loss = meta.outer_loss(total, real_x, real_y, chunk=25)


def loss(x):
    """Loss on real data after training on x."""
    return meta.unrolled_loss(
        engine, torch.zeros(3, dtype=torch.float64), meta.Steps(x, y, {"lr": lr}), [(20, outer_loss)]
    )


(by_engine,) = torch.autograd.grad(loss(x), x)
step = torch.zeros_like(x)
step[7, 2, 1] = 1e-5
by_difference = (loss(x + step) - loss(x - step)).item() / 2e-5
print(f"engine {by_engine[7, 2, 1]:.9f}, central difference {by_difference:.9f}")
assert abs(by_engine[7, 2, 1].item() - by_difference) < 1e-8
