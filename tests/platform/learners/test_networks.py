"""What every network in the registry must be for the engine, and what each is in itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, jvp, vmap

from raystill.platform import learners, seeds
from raystill.platform.learners import NETWORKS, Learner
from raystill.platform.learners.networks import without_patches
from raystill.platform.meta import MetaGradient, Steps, make_engine, outer_loss, stacked_outer_loss, unroll
from raystill.platform.objectives import Out, Step, make
from raystill.platform.spec import LearnerSpec

SHAPE, CLASSES = (2, 12, 12), 3
WIDTHS = {"linear": None, "mlp": 6, "lenet": 3, "alexnet": 2, "convnet": 4, "resnet": 2}
each = pytest.mark.parametrize("name", NETWORKS)


def small(name: str, **changes: Any) -> Learner:
    return learners.build(LearnerSpec(name=name, width=WIDTHS.get(name), **changes), SHAPE, CLASSES)


def drawn(*shape: int, stream: str) -> Tensor:
    return torch.randn(*shape, generator=seeds.torch_rng(seeds.Address(2, stream=stream)), dtype=torch.float64)


def mean_loss(learner: Learner) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda theta, x, y: make("cross_entropy")(Step(x, y, Out(learner.apply(theta, x)))).mean()


@each
def test_is_a_pure_function_of_its_parameters(name: str) -> None:
    learner = small(name)
    theta, x = learner.init(seeds.Address(0)), drawn(4, *SHAPE, stream="x").float()
    logits = learner.apply(theta, x)
    assert logits.shape == (4, CLASSES)
    assert torch.equal(learner.apply(theta, x), logits)
    learner.apply(theta + 1, x)
    assert torch.equal(learner.apply(theta, x), logits)
    assert torch.equal(learner.load(theta)(x), logits)
    # each image by itself: no statistic of the batch leaks in, and chunks of a batch mean what the batch means
    torch.testing.assert_close(torch.cat([learner.apply(theta, z[None]) for z in x]), logits, rtol=1e-4, atol=1e-5)


@each
def test_starts_as_a_function_of_the_address_alone(name: str) -> None:
    address = seeds.Address(4, step=2, member=1, stream="theta0")
    theta = small(name).init(address)
    assert theta.shape == (small(name).size,)
    assert theta.dtype == torch.float32
    assert torch.equal(small(name).init(address), theta)
    assert not torch.equal(small(name).init(address.at(member=2)), theta)


@each
def test_the_global_generator_is_neither_read_nor_moved(name: str) -> None:
    before = torch.random.get_rng_state()
    first = small(name).init(seeds.Address(0))
    assert torch.equal(torch.random.get_rng_state(), before)
    with seeds.fixed_global():
        assert torch.equal(small(name).init(seeds.Address(0)), first)


@each
@pytest.mark.parametrize("stack", ["loop", "vmap"])
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_the_engine_agrees_with_autograd(name: str, mode: str, stack: str) -> None:
    """Two steps of momentum: differentiated twice, by jvp and under vmap, in float64."""
    learner = small(name)
    loss = mean_loss(learner)
    theta0 = torch.stack([learner.init(seeds.Address(1, member=j)).double() for j in range(2)])
    x, y = drawn(2, 3, *SHAPE, stream="steps"), drawn(2, 3, CLASSES, stream="labels").softmax(-1)
    rx, ry = drawn(4, *SHAPE, stream="real"), torch.tensor([0, 1, 2, 0])
    hyper = {"lr": torch.tensor([0.05, 0.04]).double(), "momentum": torch.tensor([0.5, 0.4]).double()}
    steps = Steps(x, y, hyper)

    def total(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return loss(theta, x, y) * len(x)

    engine = make_engine(loss, mode, stack)
    if stack == "loop":
        found = unroll(engine, theta0[0], steps, [(2, outer_loss(total, rx, ry, 2))])
    else:
        both = (z.expand(2, *z.shape) for z in (rx, ry))
        whole = unroll(engine, theta0, steps, [(2, stacked_outer_loss(total, *both, 2))])
        found = MetaGradient(whole.loss[0], whole.steps.map(lambda z: z[0]), whole.theta0[0], whole.final[0])

    leaves = [z.clone().requires_grad_() for z in (theta0[0], x, y, hyper["lr"], hyper["momentum"])]
    theta, velocity = leaves[0], torch.zeros_like(theta0[0])
    for t in range(2):
        (g,) = torch.autograd.grad(loss(theta, leaves[1][t], leaves[2][t]), theta, create_graph=True)
        velocity = leaves[4][t] * velocity + g
        theta = theta - leaves[3][t] * velocity
    expected = torch.autograd.grad(loss(theta, rx, ry), leaves)
    got = (found.theta0, found.steps.x, found.steps.y, found.steps.hyper["lr"], found.steps.hyper["momentum"])
    for a, b in zip(got, expected):
        assert (a - b).norm() <= 1e-9 * b.norm() + 1e-15


@each
def test_members_under_vmap_are_the_members_alone(name: str) -> None:
    learner = small(name)
    theta = torch.stack([learner.init(seeds.Address(1, member=j)).double() for j in range(3)])
    x = drawn(2, *SHAPE, stream="x")
    together = vmap(learner.apply, in_dims=(0, None))(theta, x)
    torch.testing.assert_close(together, torch.stack([learner.apply(t, x) for t in theta]), rtol=1e-10, atol=1e-12)


@each
def test_a_jvp_of_the_gradient_is_the_hessian_vector_product(name: str) -> None:
    learner, y = small(name), torch.tensor([0, 2])
    theta, x = learner.init(seeds.Address(1)).double(), drawn(2, *SHAPE, stream="x")
    way = drawn(learner.size, stream="direction")
    loss = mean_loss(learner)
    product = jvp(lambda t: grad(loss)(t, x, y), (theta,), (way,))[1]
    leaf = theta.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(leaf, x, y), leaf, create_graph=True)
    if not g.requires_grad:
        pytest.fail(f"{name} is not differentiable twice")
    (expected,) = torch.autograd.grad(g @ way, leaf)
    torch.testing.assert_close(product, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "shape", "expected"), [("lenet", (1, 28, 28), 61_706), ("alexnet", (3, 32, 32), 1_756_426)]
)
def test_the_papers_networks_have_the_papers_sizes(name: str, shape: tuple[int, int, int], expected: int) -> None:
    assert learners.build(LearnerSpec(name=name), shape, 10).size == expected


def test_width_and_depth_say_how_large_a_network_is() -> None:
    def size(**changes: Any) -> int:
        return learners.build(LearnerSpec(**changes), (1, 8, 8), 10).size

    assert size(name="linear") == 64 * 10 + 10
    assert size(name="mlp", width=7, depth=3) == 64 * 7 + 7 + 2 * (7 * 7 + 7) + 7 * 10 + 10
    # one block: convolution, norm's scale and shift, and a head on 4x4 pixels
    assert size(name="convnet", width=5, depth=1) == 5 * 9 + 5 + 2 * 5 + 5 * 16 * 10 + 10


@pytest.mark.parametrize(("name", "side"), [("lenet", 11), ("alexnet", 7), ("convnet", 7), ("resnet", 3)])
def test_images_that_are_too_small_are_refused_with_what_would_do(name: str, side: int) -> None:
    with pytest.raises(ValueError, match=rf"learner\.name: {name}.* at least {side + 1}x{side + 1}.*{side}x{side}"):
        learners.build(LearnerSpec(name=name, width=4), (1, side, side), 3)
    assert learners.build(LearnerSpec(name=name, width=4), (1, side + 1, side + 1), 3).size > 0


def test_an_unknown_network_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"learner\.name: unknown 'lanet'; did you mean 'lenet'\? valid: alexnet, "):
        learners.build(LearnerSpec(name="lanet"), (1, 28, 28), 10)


@pytest.mark.parametrize(
    ("part", "word"),
    [(nn.BatchNorm2d(2), "keeps running statistics.*GroupNorm"), (nn.Dropout(0.1), "draws its own random numbers")],
)
def test_a_module_that_is_no_pure_function_is_refused_by_name(part: nn.Module, word: str) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), part, nn.Flatten(), nn.Linear(2, 2))
    with pytest.raises(ValueError, match=rf"learner: 1 \({type(part).__name__}\) {word}"):
        learners.wrap(module)


def test_a_module_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="learner: Flatten has no parameters"):
        learners.wrap(nn.Flatten())


def test_batch_norm_without_running_statistics_and_dropout_of_nothing_pass() -> None:
    norm = nn.BatchNorm2d(2, track_running_stats=False)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), norm, nn.Dropout(0.0), nn.Flatten())
    assert learners.wrap(module).apply(torch.zeros(2 * 9 + 2 + 4), torch.zeros(2, 1, 3, 3)).shape == (2, 2)


def test_convolutions_are_the_same_without_patches() -> None:
    learner = learners.build(LearnerSpec(name="lenet", width=3), (1, 12, 12), CLASSES)
    theta, x = learner.init(seeds.Address(0)), torch.randn(4, 1, 12, 12, generator=seeds.torch_rng(seeds.Address(1)))
    gradient = grad(lambda t: learner.apply(t, x).square().sum())
    before = learner.apply(theta, x), gradient(theta)
    without_patches(learner.module)
    for found, expected in zip((learner.apply(theta, x), gradient(theta)), before):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
