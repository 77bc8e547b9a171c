"""The generator: what it paints, what each curriculum changes, and the meta-gradient through it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raystill.platform import learners, seeds, synthesis
from raystill.platform.data import DataSet, Split
from raystill.platform.learners.weight_norm import DIRECTION, LENGTH
from raystill.platform.meta import Steps, make_engine, outer_loss, unrolled_loss
from raystill.platform.objectives import make
from raystill.platform.spec import DistillSpec, LearnerSpec
from raystill.platform.synthesis import LEARN, Synthesizer, generator_network
from raystill.platform.work.problem import losses

CLASSES, SHAPE = 4, (2, 6, 5)
ADDRESS = seeds.Address(6, stream="start")
SMALL = {"kind": "generator", "images": 6, "steps": 3, "epochs": 1, "latent": 3, "hidden": 5, "channels": 4}


def made(
    shape: tuple[int, int, int] = SHAPE, classes: int = CLASSES, **changes: Any
) -> tuple[DistillSpec, Synthesizer]:
    inner = changes.pop("inner", {"momentum": 0.5, "learn_momentum": True})
    spec = DistillSpec.model_validate({"synthesizer": {**SMALL, **changes}, "inner": inner})
    return spec, synthesis.build(spec, shape, classes)


def begun(synthesizer: Synthesizer, shape: tuple[int, int, int] = SHAPE) -> dict[str, torch.Tensor]:
    split = Split(np.zeros((4, *shape), np.uint8), np.arange(4))
    zeros = (0.0,) * shape[0]
    data = DataSet("made", tuple("abcd"), split, split, split, zeros, zeros, "0" * 64)
    synthesizer.check(data)
    return {k: torch.from_numpy(v) for k, v in synthesizer.start(data, ADDRESS).items()}


def pairs(steps: Steps) -> list[tuple[bytes, bytes]]:
    """Every (image, label) in its order."""
    x, y = steps.x.flatten(0, 1).detach().numpy(), steps.y.flatten(0, 1).detach().numpy()
    return [(a.tobytes(), b.tobytes()) for a, b in zip(x, y)]


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize(
    ("shape", "classes"), [((1, 28, 28), 10), ((3, 32, 32), 3), ((1, 8, 8), 2), ((1, 14, 14), 17), ((2, 6, 5), 4)]
)
def test_any_shape_and_number_of_classes(shape: tuple[int, int, int], classes: int, labels: str) -> None:
    spec, synthesizer = made(shape, classes, labels=labels, epochs=2)
    meta = begun(synthesizer, shape)
    assert {v.dtype for v in meta.values()} == {torch.float32}
    found = synthesizer.steps(meta, ADDRESS)
    assert found.x.shape == (6, 6, *shape)
    assert found.length == spec.unroll == len(synthesizer.order)
    named = np.arange(18).reshape(3, 6) % classes  # every class has its share, whatever the size of a step
    expected = named if labels == "hard" else np.eye(classes, dtype=np.float32)[named]
    assert np.array_equal(found.y.numpy(), np.concatenate([expected, expected]))
    assert float(found.x.abs().max()) <= generator_network.REACH
    assert float(found.x.std()) > 0.05


def test_paints_what_torchs_own_layers_paint() -> None:
    """Oracle: torch's modules with torch's weight normalisation, the same weights."""
    shape, classes = (1, 12, 8), 4
    _, synthesizer = made(shape, classes, curriculum="full")
    meta = {k: v.double().requires_grad_() for k, v in begun(synthesizer, shape).items()}
    module = nn.Sequential(
        nn.Linear(3 + classes, 5), nn.LeakyReLU(0.1), nn.Linear(5, 4 * 3 * 2), nn.LeakyReLU(0.1),
        nn.Unflatten(1, (4, 3, 2)), nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 3, padding=1), nn.LeakyReLU(0.1),
        nn.Upsample(scale_factor=2), nn.Conv2d(2, 1, 3, padding=1),
    ).double()  # fmt: skip
    layers = [m for m in module if isinstance(m, (nn.Linear, nn.Conv2d))]
    for layer, name in zip(layers, ("hidden", "map", "half", "whole")):
        nn.utils.parametrizations.weight_norm(layer)
        for key, kind in (("bias", "b"), (LENGTH, "g"), (DIRECTION, "v")):
            layer.get_parameter(key).data.copy_(meta[f"{name}/{kind}"])
    rows = torch.eye(classes, dtype=torch.float64)[torch.arange(18) % classes]
    z = meta["latents"].detach().flatten(0, 1).requires_grad_()
    expected = generator_network.REACH * torch.tanh(module(torch.cat([z, rows], 1)) / generator_network.REACH)
    found = synthesizer.steps(meta, ADDRESS).x
    torch.testing.assert_close(found, expected.view(3, 6, *shape))
    way = torch.randn(found.shape, generator=seeds.torch_rng(ADDRESS), dtype=torch.float64)
    (found * way).sum().backward()
    (expected * way.flatten(0, 1)).sum().backward()
    torch.testing.assert_close(meta["latents"].grad.flatten(0, 1), z.grad)
    for layer, name in zip(layers, ("hidden", "map", "half", "whole")):
        for key, kind in (("bias", "b"), (LENGTH, "g"), (DIRECTION, "v")):
            torch.testing.assert_close(meta[f"{name}/{kind}"].grad, layer.get_parameter(key).grad)


def test_an_even_map_becomes_an_even_image_without_a_checkerboard() -> None:
    _, synthesizer = made((1, 16, 16))
    meta = begun(synthesizer, (1, 16, 16))
    meta["map/v"][:] = meta["map/v"].view(4, 16, -1)[:, :1].expand(4, 16, -1).reshape(64, -1)
    meta["map/g"][:] = meta["map/g"].view(4, 16)[:, :1].expand(4, 16).reshape(64, 1)
    inside = synthesizer.steps(meta, ADDRESS).x[..., 3:-3, 3:-3]
    torch.testing.assert_close(inside, inside[..., :1, :1].expand_as(inside))
    assert float(inside.std()) > 0.01  # images differ, pixels of one do not


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("curriculum", ["batch-shuffled", "all-shuffled"])
def test_a_shuffled_curriculum_is_a_permutation_of_the_full_one(curriculum: str, labels: str) -> None:
    _, full = made(labels=labels)
    _, shuffled = made(labels=labels, curriculum=curriculum)
    meta = begun(full)
    assert all(torch.equal(v, begun(shuffled)[k]) for k, v in meta.items())
    ordered = pairs(full.steps(meta, ADDRESS))
    assert ordered == pairs(full.steps(meta, ADDRESS.at(step=1)))
    seen = [pairs(shuffled.steps(meta, seeds.Address(1, step=n, stream=LEARN))) for n in range(8)]
    assert seen == [pairs(shuffled.steps(meta, seeds.Address(1, step=n, stream=LEARN))) for n in range(8)]
    assert all(Counter(found) == Counter(ordered) for found in seen)
    assert len({tuple(found) for found in seen}) > 3
    batches = Counter(tuple(ordered[at : at + 6]) for at in (0, 6, 12))
    whole = [Counter(tuple(found[at : at + 6]) for at in (0, 6, 12)) == batches for found in seen]
    assert all(whole) if curriculum == "batch-shuffled" else not any(whole)


def test_no_curriculum_is_fresh_noise_at_each_address() -> None:
    _, synthesizer = made(curriculum="none", steps=40)
    meta = begun(synthesizer)
    assert "latents" not in meta
    first, again, other = (synthesizer.steps(meta, ADDRESS.at(member=m)) for m in (0, 0, 1))
    assert torch.equal(first.x, again.x)
    assert not set(pairs(first)) & set(pairs(other))
    assert len(set(pairs(first))) == 240
    assert torch.equal(first.y, other.y)


def test_pixels_are_learned_without_a_generator_in_the_same_bounds() -> None:
    _, synthesizer = made(curriculum="pixels")
    meta = begun(synthesizer)
    assert set(meta) == {"latents", "lr", "momentum"}
    assert meta["latents"].shape == (3, 6, *SHAPE)
    expected = generator_network.REACH * np.tanh(meta["latents"].numpy() / generator_network.REACH)
    np.testing.assert_allclose(synthesizer.steps(meta, ADDRESS).x.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("weight_norm", [True, False])
@pytest.mark.parametrize("curriculum", ["full", "batch-shuffled", "all-shuffled", "none", "pixels"])
def test_every_curriculum_is_differentiable_in_exactly_what_is_learned(
    curriculum: str, weight_norm: bool, labels: str
) -> None:
    spec, synthesizer = made(curriculum=curriculum, weight_norm=weight_norm, labels=labels)
    meta = {k: v.requires_grad_() for k, v in begun(synthesizer).items()}
    assert set(synthesizer.groups) == set(meta)
    assert all(hasattr(spec.outer, field) for field in synthesizer.groups.values())
    found = synthesizer.steps(meta, ADDRESS)
    outputs = [z for z in (found.x, found.y, *found.hyper.values()) if z.requires_grad]
    gradients = torch.autograd.grad(sum(z.square().sum() for z in outputs), list(meta.values()))
    assert all(bool(g.any()) for g in gradients)


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("curriculum", ["full", "all-shuffled", "pixels"])
def test_the_meta_gradient_equals_finite_differences(curriculum: str, labels: str) -> None:
    """Float64, through the generator, its weight normalisation and the learner's, momentum and two judgements."""
    shape = (1, 8, 8)
    _, synthesizer = made(shape, curriculum=curriculum, labels=labels)
    # rectifiers have kinks that a finite step crosses; tanh has none
    with seeds.fixed_global():
        module = nn.Sequential(nn.Conv2d(1, 3, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(27, CLASSES))
    learner = learners.wrap(learners.weight_normed(module))
    mean, total = losses(learner, make("cross_entropy"))
    rng = seeds.torch_rng(seeds.Address(9, stream="real"))
    x, y = torch.randn(9, *shape, generator=rng, dtype=torch.float64), torch.arange(9) % CLASSES
    theta0 = learner.init(seeds.Address(2)).double()
    outer_losses = [(2, outer_loss(total, x[:4], y[:4], 3)), (3, outer_loss(total, x[4:], y[4:], 3))]
    meta = {k: v.double() for k, v in begun(synthesizer, shape).items()}

    def loss(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return unrolled_loss(make_engine(mean), theta0, synthesizer.steps(values, ADDRESS), outer_losses)

    leaves = {k: v.clone().requires_grad_() for k, v in meta.items()}
    gradients = dict(zip(leaves, torch.autograd.grad(loss(leaves), list(leaves.values()))))
    for name, gradient in gradients.items():
        way = torch.randn(gradient.shape, generator=seeds.torch_rng(ADDRESS.at(stream=name)), dtype=torch.float64)
        ends = [float(loss({**meta, name: meta[name] + by * way})) for by in (1e-6, -1e-6)]
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float((gradient * way).sum()), rel=2e-5, abs=1e-8), name


def test_a_learned_learner_is_the_same_whether_weights_are_normalised_at_the_start() -> None:
    plain, normed = (
        learners.build(LearnerSpec(name="mlp", weight_norm=on), (1, 8, 8), 10) for on in (False, True)
    )  # fmt: skip
    x = torch.randn(3, 1, 8, 8, generator=seeds.torch_rng(ADDRESS))
    module = learners.weight_normed(plain.load(plain.init(ADDRESS)))
    torch.testing.assert_close(module(x), normed.apply(torch.cat([p.flatten() for p in module.parameters()]), x))


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("curriculum", ["full", "all-shuffled", "none"])
def test_a_longer_curriculum_goes_on_where_the_learned_one_ends(curriculum: str, labels: str) -> None:
    _, synthesizer = made(curriculum=curriculum, labels=labels)
    meta = begun(synthesizer)
    meta["lr"][:] = torch.tensor([0.0, 1.0, 2.0])
    own, longer = synthesizer.steps(meta, ADDRESS), synthesizer.longer(meta, 8, ADDRESS)
    assert longer.x.shape == (8, 6, *SHAPE)
    assert longer.y.shape[:2] == (8, 6)
    assert torch.equal(longer.x[:3], own.x)
    assert len(set(pairs(longer))) == 48  # new images, not the old ones again
    falling = 0.3 * torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2])
    torch.testing.assert_close(longer.hyper["lr"], torch.cat([own.hyper["lr"], own.hyper["lr"][-1] * falling]))
    torch.testing.assert_close(longer.hyper["momentum"], own.hyper["momentum"][[0, 1, 2] + [2] * 5])
    again = synthesizer.longer(meta, 8, ADDRESS)
    assert torch.equal(longer.x, again.x)
    assert torch.equal(synthesizer.longer(meta, 2, ADDRESS).x, own.x[:2])
    names = longer.y if labels == "hard" else longer.y.argmax(-1)
    assert np.array_equal(names[3:].flatten().numpy(), np.arange(30) % CLASSES)


def test_pixels_can_not_be_made_longer() -> None:
    assert made(curriculum="pixels")[1].longer is None


def test_what_only_images_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"synthesizer\.start: 'real' is for kind images; a generator takes 'noise'"):
        made(start="real")
    with pytest.raises(ValueError, match=r"synthesizer\.scales: 2 is for kind images; a generator takes 1"):
        made(scales=2)
    with pytest.raises(ValueError, match=r"synthesizer\.augment: \('flip',\) is for kind images"):
        made(augment=("flip",))
    with pytest.raises(ValueError, match=r"synthesizer\.frozen: True is for kind images"):
        made(frozen=True, labels="soft")
    with pytest.raises(ValueError, match=r"synthesizer\.label_start: 'noise' is for kind images"):
        made(label_start="noise", labels="soft")
    with pytest.raises(ValueError, match=r"synthesizer\.images: 1 steps of 3 images can not name 4 classes"):
        made(images=3, steps=1)
