"""Augmentation against torchvision under the same seed, and what each must keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from raystill.platform import seeds
from raystill.platform.objectives import Out, soft
from raystill.platform.students import augmentations
from raystill.platform.students.augmentations import AUGMENTATIONS, Batch, Context, chain, make, weak_shift

AT, K, B = seeds.Address(5, stream="view"), 10, 12
SETTINGS: dict[str, dict[str, Any]] = {"manifold_mixup": {"layers": ["", "0"]}}
MEAN, STD = torch.full((3, 1, 1), 0.4), torch.full((3, 1, 1), 0.25)
each = pytest.mark.parametrize("name", AUGMENTATIONS)


@pytest.fixture
def context() -> Context:
    return Context(K, MEAN, STD, nn.Sequential(nn.Flatten(), nn.Linear(768, K)))


@pytest.fixture
def batch() -> Batch:
    pixels = torch.randint(0, 256, (B, 3, 16, 16), generator=seeds.torch_rng(AT)) / 255
    return Batch((pixels - MEAN) / STD, torch.arange(B) % K)


def augment(name: str, context: Context, **settings: Any) -> augmentations.Augmentation:
    found = make({name: {**SETTINGS.get(name, {}), **settings}}, context)
    assert found
    return found


@each
def test_is_a_function_of_the_address_alone_and_leaves_the_batch_as_it_was(
    name: str, context: Context, batch: Batch
) -> None:
    before, v = batch.x.clone(), augment(name, context)
    first, again, other = v(batch, AT), v(batch, AT), [v(batch, AT.at(step=s)) for s in range(1, 6)]
    assert torch.equal(batch.x, before)
    for a, b in zip((first.x, *first.views), (again.x, *again.views)):
        assert torch.equal(a, b)
    assert first.x.dtype == torch.float32
    assert v.changes
    shown = [s.x if s.teacher_x is None else s.teacher_x for s in other] + [t for s in other for t in s.views]
    assert any(t.shape != first.x.shape or not torch.equal(t, first.x) for t in shown)


@pytest.mark.parametrize(("name", "transform"), [("mixup", v2.MixUp), ("cutmix", v2.CutMix)])
def test_mixtures_are_torchvisions(name: str, transform: Any, context: Context, batch: Batch) -> None:
    found = augment(name, context, alpha=0.7)(batch, AT)
    with seeds.global_at(AT.at(stream=f"{AT.stream}/0")):
        x, y = transform(alpha=0.7, num_classes=K)(batch.x, batch.y)
    assert torch.equal(found.x, x)
    torch.testing.assert_close(found.y, y)
    assert torch.allclose(found.y.sum(1), torch.ones(B))


def test_a_cutout_is_a_square_of_the_mean_at_a_place_of_its_own_for_each_image(context: Context, batch: Batch) -> None:
    x = augment("cutout", context, share=0.25)(batch, AT).x
    erased = (x != batch.x).any(1)
    boxes = [np.argwhere(e.numpy()) for e in erased]
    assert all(tuple(box.max(0) - box.min(0) + 1) == (8, 8) for box in boxes)
    assert len({tuple(box.min(0)) for box in boxes}) > B // 2
    assert (x[(x != batch.x)] == 0).all()


def test_augmix_and_randaugment_are_torchvisions_one_sample_at_a_time(context: Context, batch: Batch) -> None:
    pixels = ((batch.x * STD + MEAN) * 255).round().to(torch.uint8)
    with seeds.global_at(AT.at(stream=f"{AT.stream}/0/0")):
        mixed = torch.stack([v2.AugMix()(image) for image in pixels])
    found = augment("augmix", context)(batch, AT)
    torch.testing.assert_close(found.views[0], (mixed / 255 - MEAN) / STD)
    assert len(found.views) == 2
    assert found.x is batch.x
    with seeds.global_at(AT.at(stream=f"{AT.stream}/0")):
        changed = torch.stack([v2.RandAugment(2, 9)(image) for image in pixels])
    torch.testing.assert_close(augment("randaugment", context)(batch, AT).x, (changed / 255 - MEAN) / STD)


def test_shifts_are_windows_of_the_padded_image(batch: Batch) -> None:
    moved = weak_shift(batch.x, AT, 0.125, flip=True)
    padded = nn.functional.pad(batch.x, (2,) * 4, mode="replicate")
    mirrored = nn.functional.pad(batch.x.flip(3), (2,) * 4, mode="replicate")
    places = []
    for image, plain, other in zip(moved, padded, mirrored):
        windows = {(f, a, b): z[:, a : a + 16, b : b + 16]
                   for f, z in enumerate((plain, other)) for a in range(5) for b in range(5)}  # fmt: skip
        places.append(next((at for at, window in windows.items() if torch.equal(window, image)), None))
    assert None not in places
    assert len(set(places)) > 5


def test_manifold_mixup_of_the_input_is_mixup_and_mixes_labels_alike(context: Context, batch: Batch) -> None:
    one = augment("manifold_mixup", context, layers=[""])(batch, AT)
    inside = augment("manifold_mixup", context, layers=["0"])(batch, AT)
    assert torch.equal(inside.x, batch.x)
    assert torch.allclose(one.y.sum(1), torch.ones(B))
    # a flatten mixes as its input does, with the same draw
    torch.testing.assert_close(inside.layers["0"](batch.x.flatten(1)), one.x.flatten(1))
    assert torch.equal(inside.y, one.y)


def test_a_pair_shows_labelled_samples_their_own_view(context: Context, batch: Batch) -> None:
    half = batch._replace(y=torch.where(torch.arange(B) < 4, batch.y, -1))
    found = augment("pair", context, teacher="plain", student="strong", labelled="plain")(half, AT)
    assert torch.equal(found.teacher_x, batch.x)
    assert torch.equal(found.x[:4], batch.x[:4])
    assert not torch.equal(found.x[4:], batch.x[4:])
    rows = soft(half.y, K)
    assert torch.equal(augment("pair", context, labelled="weak")(half._replace(y=rows), AT).x,
                       augment("pair", context, labelled="weak")(half, AT).x)  # fmt: skip


def test_mixmatch_mixes_samples_and_targets_alike_and_keeps_the_larger_share(context: Context, batch: Batch) -> None:
    half = batch._replace(y=torch.where(torch.arange(B) < 6, batch.y, -1))
    guesses = torch.randn(B, K, generator=seeds.torch_rng(AT))
    v = augment("mixmatch", context, weak=False)
    assert v.blend
    mixed, out = v.blend(half, Out(guesses), AT)
    targets = torch.where(torch.arange(B)[:, None] < 6, soft(half.y, K), guesses.softmax(1))
    rng = seeds.numpy_rng(AT)
    order, share = rng.permutation(B), rng.beta(0.75, 0.75, B)
    s = torch.tensor(np.maximum(share, 1 - share), dtype=torch.float32)[:, None]
    expected = s * targets + (1 - s) * targets[order]
    torch.testing.assert_close(out.logits.exp(), expected)
    torch.testing.assert_close(mixed.y[:6], expected[:6])
    assert not mixed.y[6:].any()
    s = s[:, :, None, None]
    torch.testing.assert_close(mixed.x, s * batch.x + (1 - s) * batch.x[order])


def test_foresee_shows_the_top_and_then_the_strip_below(context: Context, batch: Batch) -> None:
    for step in range(6):
        found = augment("foresee", context)(batch, AT.at(step=step))
        (strip,) = found.views
        assert strip.shape[2] == 4
        assert found.x.shape[2] in (8, 12)
        assert torch.equal(torch.cat([found.x, strip], 2), batch.x[:, :, : found.x.shape[2] + 4])


def test_augmentations_follow_one_another_and_only_one_may_blend(context: Context, batch: Batch) -> None:
    both = make({"shift": {}, "mixup": {"alpha": 0.5}}, context)
    assert both
    first = augment("shift", context)(batch, AT)
    found = both(batch, AT)
    with seeds.global_at(AT.at(stream=f"{AT.stream}/1")):
        x, _ = v2.MixUp(alpha=0.5, num_classes=K)(first.x, batch.y)
    assert torch.equal(found.x, x)
    assert make({}, context) is None
    with pytest.raises(ValueError, match="only one of them can mix"):
        chain(augment("mixmatch", context), augment("mixmatch", context))


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("mixupp", {}, r"augmentations: unknown 'mixupp'; did you mean 'mixup'"),
        ("mixup", {"alfa": 1}, r"augmentations.mixup: no setting 'alfa'; did you mean 'alpha'"),
        ("mixup", {"alpha": 0}, r"augmentations.mixup.alpha: 0 is not above 0"),
        ("manifold_mixup", {"layers": ["9"]}, r"augmentations.manifold_mixup.layers: Sequential has no module '9'"),
        ("manifold_mixup", {"layers": []}, r"needs at least one module path"),
        ("pair", {"teacher": "weka"}, r"augmentations.pair.teacher: unknown 'weka'; did you mean 'weak'"),
        ("cutout", {"share": 1.0}, r"augmentations.cutout.share: 1 is not above 0"),
        ("foresee", {"strips": 2}, r"augmentations.foresee.strips: 2"),
        ("augmix", {"views": 0}, r"augmentations.augmix.views: 0 is not 1 to 4"),
    ],
)
def test_wrong_settings_are_one_line(name: str, settings: dict[str, Any], says: str, context: Context) -> None:
    with pytest.raises(ValueError, match=says):
        make({name: settings}, context)
