"""Images as meta-parameters: where they start, how they become steps, and that every part can be learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from raystill.platform import seeds, synthesis
from raystill.platform.data import DataSet, Split
from raystill.platform.spec import DistillSpec
from raystill.platform.synthesis import Synthesizer

CLASSES, SHAPE = 4, (2, 3, 5)
ADDRESS = seeds.Address(6, stream="start")


@pytest.fixture
def data() -> DataSet:
    """Ten images a class; every pixel of class k lies in [60 k, 60 k + 40]."""
    y = np.arange(10 * CLASSES) % CLASSES
    noise = seeds.numpy_rng(seeds.Address(0, stream="pixels")).integers(0, 41, (len(y), *SHAPE))
    split = Split((60 * y[:, None, None, None] + noise).astype(np.uint8), y)
    return DataSet("made", tuple("abcd"), split, split, split, (0.5, 0.25), (0.5, 2.0), "0" * 64)


def made(**changes: Any) -> tuple[DistillSpec, Synthesizer]:
    inner = changes.pop("inner", {})
    spec = DistillSpec.model_validate({"synthesizer": changes, "inner": inner})
    return spec, synthesis.build(spec, SHAPE, CLASSES)


def tensors(meta: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {k: torch.from_numpy(v).requires_grad_() for k, v in meta.items()}


def pixels(normalised: np.ndarray) -> np.ndarray:
    """Back to 0..255."""
    mean, std = np.array([0.5, 0.25])[:, None, None], np.array([0.5, 2.0])[:, None, None]
    return (normalised * std + mean) * 255


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize(("per_class", "steps", "epochs"), [(1, 1, 1), (2, 3, 2), (1, 2, 4)])
def test_shapes_and_order_follow_the_spec(data: DataSet, labels: str, per_class: int, steps: int, epochs: int) -> None:
    spec, synthesizer = made(labels=labels, per_class=per_class, steps=steps, epochs=epochs)
    meta, images = synthesizer.start(data, ADDRESS), per_class * CLASSES
    assert meta["images"].shape == (steps, images, *SHAPE)
    assert {v.dtype for v in meta.values()} == {np.dtype(np.float32)}
    assert synthesizer.order.tolist() == list(range(steps)) * epochs
    found = synthesizer.steps(tensors(meta), ADDRESS)
    assert found.length == spec.unroll == steps * epochs
    for t, s in enumerate(synthesizer.order):
        assert np.array_equal(found.x[t].detach().numpy(), meta["images"][s])
    names = np.arange(images) % CLASSES
    if labels == "hard":
        assert np.array_equal(found.y.numpy(), np.tile(names, (spec.unroll, 1)))
        assert found.y.dtype == torch.int64
    else:
        assert np.array_equal(meta["labels"], np.tile(np.eye(CLASSES, dtype=np.float32)[names], (steps, 1, 1)))
        assert found.y.shape == (spec.unroll, images, CLASSES)


@pytest.mark.parametrize("start", ["noise", "real", "average", "kmeans"])
@pytest.mark.parametrize(("images", "labels"), [(None, "hard"), (7, "hard"), (3, "soft")])
def test_every_start_is_a_function_of_its_address(data: DataSet, start: str, images: int | None, labels: str) -> None:
    _, synthesizer = made(start=start, images=images, labels=labels, steps=2)
    synthesizer.check(data)
    first, again = (synthesizer.start(data, ADDRESS)["images"] for _ in range(2))
    assert first.shape == (2, images or CLASSES, *SHAPE)
    assert np.array_equal(first, again)
    if start in ("noise", "real"):
        assert not np.array_equal(first, synthesizer.start(data, ADDRESS.at(seed=7))["images"])


@pytest.mark.parametrize("start", ["real", "average", "kmeans"])
@pytest.mark.parametrize("images", [None, 7])
def test_a_start_from_data_shows_the_class_that_its_label_names(data: DataSet, start: str, images: int | None) -> None:
    _, synthesizer = made(start=start, images=images, steps=2)
    meta = synthesizer.start(data, ADDRESS)
    shown, names = pixels(meta["images"]), synthesizer.steps(tensors(meta), ADDRESS).y.numpy()[:2]
    low = 60 * names[..., None, None, None]
    assert (shown >= low - 1e-3).all()
    assert (shown <= low + 40 + 1e-3).all()


def test_real_starts_are_images_of_the_data_each_used_once(data: DataSet) -> None:
    _, synthesizer = made(start="real", per_class=3, steps=3)
    shown = np.rint(pixels(synthesizer.start(data, ADDRESS)["images"])).astype(np.uint8).reshape(-1, np.prod(SHAPE))
    real = {row.tobytes() for row in data.train.x}
    drawn = [row.tobytes() for row in shown]
    assert set(drawn) <= real
    assert len(set(drawn)) == len(drawn) == 36


def test_an_average_start_is_the_class_average(data: DataSet) -> None:
    _, synthesizer = made(start="average")
    expected = np.stack([data.train.x[data.train.y == k].mean(0) for k in range(CLASSES)])
    np.testing.assert_allclose(pixels(synthesizer.start(data, ADDRESS)["images"][0]), expected, atol=1e-3)


def test_a_noise_start_has_the_spread_that_was_asked_for(data: DataSet) -> None:
    _, synthesizer = made(noise=0.25, per_class=40)
    found = synthesizer.start(data, ADDRESS)["images"]
    assert found.std() == pytest.approx(0.25, rel=0.05)
    assert abs(found.mean()) < 0.02


def test_fewer_images_than_classes_share_the_classes_among_them(data: DataSet) -> None:
    _, synthesizer = made(images=3, labels="soft")
    rows = synthesizer.start(data, ADDRESS)["labels"][0]
    assert rows.tolist() == [[0.5, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0]]


def test_rates_start_where_the_spec_says_whatever_they_are_learned_through(data: DataSet) -> None:
    spec, synthesizer = made(inner={"lr": 0.037, "momentum": 0.61, "learn_momentum": True}, steps=2)
    found = synthesizer.steps(tensors(synthesizer.start(data, ADDRESS)), ADDRESS).hyper
    assert set(found) == {"lr", "momentum"}
    torch.testing.assert_close(found["lr"], torch.full((spec.unroll,), 0.037))
    torch.testing.assert_close(found["momentum"], torch.full((spec.unroll,), 0.61))


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize(
    "inner",
    [
        {"momentum": 0.5, "learn_momentum": True},
        {"momentum": 0.5},
        {"learn_lr": False},
        {"learn_lr": False, "momentum": 0.5, "learn_momentum": True},
    ],
)
def test_steps_are_differentiable_in_exactly_what_is_learned(data: DataSet, labels: str, inner: dict[str, Any]) -> None:
    spec, synthesizer = made(labels=labels, inner=inner, steps=2, epochs=2)
    meta = tensors(synthesizer.start(data, ADDRESS))
    found = synthesizer.steps(meta, ADDRESS)
    learned = {"images"} | ({"labels"} if labels == "soft" else set())
    learned |= {"lr"} if spec.inner.learn_lr else set()
    learned |= {"momentum"} if spec.inner.learn_momentum else set()
    assert set(synthesizer.groups) == learned
    assert {getattr(spec.outer, field) for field in synthesizer.groups.values()} <= {0.01}
    outputs = [z for z in (found.x, found.y, *found.hyper.values()) if z.requires_grad]
    whole = sum(z.square().sum() for z in outputs)
    gradients = torch.autograd.grad(whole, list(meta.values()), allow_unused=True)
    assert {name for name, g in zip(meta, gradients) if g is not None and bool(g.any())} == learned
    # the same images serve each epoch: their gradient is the sum of its uses
    g_images = dict(zip(meta, gradients))["images"]
    torch.testing.assert_close(g_images, 2 * 2 * meta["images"].detach())


def test_steps_pass_gradcheck(data: DataSet) -> None:
    _, synthesizer = made(labels="soft", inner={"momentum": 0.5, "learn_momentum": True}, epochs=2)
    meta = {k: torch.from_numpy(v).double().requires_grad_() for k, v in synthesizer.start(data, ADDRESS).items()}

    def outputs(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = synthesizer.steps(dict(zip(meta, values)), ADDRESS)
        return found.x[:, :, 0, 0, 0], found.y, *found.hyper.values()

    assert torch.autograd.gradcheck(outputs, tuple(meta.values()))


def test_what_can_not_be_started_is_refused(data: DataSet) -> None:
    with pytest.raises(
        ValueError, match=r"synthesizer\.curriculum: 'pixels' is for kind generator; images take 'full'"
    ):
        made(curriculum="pixels")
    with pytest.raises(ValueError, match=r"synthesizer\.images: 3 images with hard labels can not name 4 classes"):
        made(images=3)
    with pytest.raises(ValueError, match=r"class 'a' has 10 training images, but 12 are asked for"):
        made(start="real", per_class=4, steps=3)[1].check(data)
    made(start="noise", per_class=4, steps=3)[1].check(data)
    with pytest.raises(ValueError, match=r"synthesizer\.kind: unknown 'image'; did you mean 'images'"):
        made(kind="image")


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 3, 5), (3, 9, 16)])
def test_an_image_is_the_sum_of_its_scales(shape: tuple[int, int, int]) -> None:
    """Oracle: torch's own bilinear interpolation."""
    spec = DistillSpec.model_validate({"synthesizer": {"scales": 3, "steps": 2, "epochs": 1}})
    synthesizer = synthesis.build(spec, shape, CLASSES)
    rng = seeds.torch_rng(ADDRESS)
    sides = {name: [-(-n // k) for n in shape[1:]] for name, k in (("images", 1), ("images/2", 2), ("images/4", 4))}
    layers = {k: torch.randn(2, CLASSES, shape[0], *v, generator=rng) for k, v in sides.items()}
    found = synthesizer.steps({**layers, "lr": torch.zeros(2)}, ADDRESS).x
    expected = sum(
        torch.nn.functional.interpolate(v.flatten(0, 1), shape[1:], mode="bilinear").unflatten(0, (2, CLASSES))
        for v in layers.values()
    )
    torch.testing.assert_close(found, expected)
    assert set(synthesizer.groups) == {*layers, "lr"}


def test_coarser_scales_start_at_zero_and_are_learned(data: DataSet) -> None:
    _, one = made(start="average")
    _, three = made(start="average", scales=3)
    meta = three.start(data, ADDRESS)
    assert np.array_equal(
        three.steps(tensors(meta), ADDRESS).x.detach(), one.steps(tensors(one.start(data, ADDRESS)), ADDRESS).x.detach()
    )
    leaves = tensors(meta)
    three.steps(leaves, ADDRESS).x.square().sum().backward()
    assert all(
        leaves[k].grad is not None and leaves[k].grad.abs().sum() > 0 for k in ("images", "images/2", "images/4")
    )
