"""Differentiable augmentation against torchvision and plain slices; drawn by the address; linear in the images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv

from raystill.platform import seeds, synthesis
from raystill.platform.data import DataSet, Split
from raystill.platform.spec import DistillSpec
from raystill.platform.synthesis import LEARN, augment

X = torch.randn(3, 3, 16, 16, generator=seeds.torch_rng(seeds.Address(0, stream="x")), dtype=torch.float64)


def rng(seed: int) -> np.random.Generator:
    return seeds.numpy_rng(seeds.Address(seed, stream="draw"))


@pytest.mark.parametrize("name", augment.AUGMENTATIONS)
def test_gradients_pass_through_each(name: str) -> None:
    change = augment.AUGMENTATIONS[name]
    x = X[:1, :, :6, :6].clone().requires_grad_()
    for seed in range(3):
        assert torch.autograd.gradcheck(lambda z, s=seed: change(z, rng(s)), (x,))
        assert torch.autograd.gradgradcheck(lambda z, s=seed: change(z, rng(s)), (x,))


@pytest.mark.parametrize("name", augment.AUGMENTATIONS)
def test_each_is_drawn_by_its_generator_and_keeps_the_shape(name: str) -> None:
    change = augment.AUGMENTATIONS[name]
    found = [change(X, rng(seed)) for seed in range(6)]
    assert all(x.shape == X.shape for x in found)
    assert torch.equal(found[3], change(X, rng(3)))
    assert len({x.numpy().tobytes() for x in found}) > 1


def test_a_shift_is_a_slice_with_zeros_coming_in() -> None:
    most, seen = round(augment.SHIFT * 16), set()
    for seed in range(60):
        found = augment.shift(X, rng(seed))
        down, right = (int(rng_.integers(-most, most + 1)) for rng_ in [rng(seed)] for _ in range(2))
        expected = torch.zeros_like(X)
        for i in range(16):
            for j in range(16):
                if 0 <= i - down < 16 and 0 <= j - right < 16:
                    expected[..., i, j] = X[..., i - down, j - right]
        assert torch.equal(found, expected)
        seen.add((down, right))
    assert len(seen) > 15


def test_a_rotation_is_torchvisions() -> None:
    angle = float(rng(4).uniform(-augment.ROTATE, augment.ROTATE))
    expected = tv.rotate(X, angle, tv.InterpolationMode.BILINEAR)
    inner = (..., slice(4, 12), slice(4, 12))  # at the border the two fill differently
    ours = augment.rotate(X, rng(4))
    other = tv.rotate(X, -angle, tv.InterpolationMode.BILINEAR)
    gap = min(float((ours - e)[inner].abs().max()) for e in (expected, other))
    assert gap < 1e-3


def test_a_scale_of_one_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "SCALE", 1.0)
    torch.testing.assert_close(augment.scale(X, rng(0)), X)


def test_colour_keeps_greys_grey_and_is_affine() -> None:
    grey = X.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    found = augment.colour(grey, rng(1))
    torch.testing.assert_close(found[:, 0], found[:, 2])
    zero, twice = augment.colour(0 * X, rng(1)), augment.colour(2 * X, rng(1))
    torch.testing.assert_close(twice - zero, 2 * (augment.colour(X, rng(1)) - zero))


def steps(stream: str, step: int = 0, **changes: Any) -> torch.Tensor:
    spec = DistillSpec.model_validate({"synthesizer": {"augment": ["flip", "shift", "colour"], "epochs": 2, **changes}})
    made = synthesis.build(spec, (1, 8, 8), 2)
    y = np.arange(8) % 2
    split = Split(np.zeros((8, 1, 8, 8), np.uint8), y)
    data = DataSet("made", ("a", "b"), split, split, split, (0.5,), (0.5,), "0" * 64)
    meta = {k: torch.from_numpy(v) for k, v in made.start(data, seeds.Address(0, stream="start")).items()}
    return made.steps(meta, seeds.Address(0, step=step, stream=stream)).x


def test_a_network_that_is_judged_learns_from_the_plain_images() -> None:
    plain = steps("validate", augment=[])
    assert torch.equal(steps("validate"), plain)
    assert torch.equal(steps("artefact"), plain)
    assert not torch.equal(steps(LEARN), plain)


def test_each_inner_step_and_each_outer_step_has_its_own_draw() -> None:
    first = steps(LEARN)
    assert torch.equal(first, steps(LEARN))
    assert not torch.equal(first[0], first[1]), "the same images, in another epoch"
    assert not torch.equal(first, steps(LEARN, step=1))
