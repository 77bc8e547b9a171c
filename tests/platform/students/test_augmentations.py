"""Views against torchvision under the same seed, and what each must keep."""

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
from raystill.platform.students.augmentations import VIEWS, About, Seen, make, shifted, together

AT, K, B = seeds.Address(5, stream="view"), 10, 12
SETTINGS: dict[str, dict[str, Any]] = {"manifold_mixup": {"layers": ["", "0"]}}
MEAN, STD = torch.full((3, 1, 1), 0.4), torch.full((3, 1, 1), 0.25)
each = pytest.mark.parametrize("name", VIEWS)


@pytest.fixture
def about() -> About:
    return About(K, MEAN, STD, nn.Sequential(nn.Flatten(), nn.Linear(768, K)))


@pytest.fixture
def seen() -> Seen:
    pixels = torch.randint(0, 256, (B, 3, 16, 16), generator=seeds.torch_rng(AT)) / 255
    return Seen((pixels - MEAN) / STD, torch.arange(B) % K)


def view(name: str, about: About, **settings: Any) -> augmentations.Views:
    found = make({name: {**SETTINGS.get(name, {}), **settings}}, about)
    assert found
    return found


@each
def test_is_a_function_of_the_address_alone_and_leaves_the_batch_as_it_was(name: str, about: About, seen: Seen) -> None:
    before, v = seen.x.clone(), view(name, about)
    first, again, other = v(seen, AT), v(seen, AT), [v(seen, AT.at(step=s)) for s in range(1, 6)]
    assert torch.equal(seen.x, before)
    for a, b in zip((first.x, *first.others), (again.x, *again.others)):
        assert torch.equal(a, b)
    assert first.x.dtype == torch.float32
    assert v.changes
    shown = [s.x if s.teacher is None else s.teacher for s in other] + [t for s in other for t in s.others]
    assert any(t.shape != first.x.shape or not torch.equal(t, first.x) for t in shown)


@pytest.mark.parametrize(("name", "transform"), [("mixup", v2.MixUp), ("cutmix", v2.CutMix)])
def test_mixtures_are_torchvisions(name: str, transform: Any, about: About, seen: Seen) -> None:
    found = view(name, about, alpha=0.7)(seen, AT)
    with seeds.global_at(AT.at(stream=f"{AT.stream}/0")):
        x, y = transform(alpha=0.7, num_classes=K)(seen.x, seen.y)
    assert torch.equal(found.x, x)
    torch.testing.assert_close(found.y, y)
    assert torch.allclose(found.y.sum(1), torch.ones(B))


def test_a_cutout_is_a_square_of_the_mean_at_a_place_of_its_own_for_each_image(about: About, seen: Seen) -> None:
    x = view("cutout", about, share=0.25)(seen, AT).x
    erased = (x != seen.x).any(1)
    boxes = [np.argwhere(e.numpy()) for e in erased]
    assert all(tuple(box.max(0) - box.min(0) + 1) == (8, 8) for box in boxes)
    assert len({tuple(box.min(0)) for box in boxes}) > B // 2
    assert (x[(x != seen.x)] == 0).all()


def test_augmix_and_randaugment_are_torchvisions_one_sample_at_a_time(about: About, seen: Seen) -> None:
    pixels = ((seen.x * STD + MEAN) * 255).round().to(torch.uint8)
    with seeds.global_at(AT.at(stream=f"{AT.stream}/0/0")):
        mixed = torch.stack([v2.AugMix()(image) for image in pixels])
    found = view("augmix", about)(seen, AT)
    torch.testing.assert_close(found.others[0], (mixed / 255 - MEAN) / STD)
    assert len(found.others) == 2
    assert found.x is seen.x
    with seeds.global_at(AT.at(stream=f"{AT.stream}/0")):
        changed = torch.stack([v2.RandAugment(2, 9)(image) for image in pixels])
    torch.testing.assert_close(view("randaugment", about)(seen, AT).x, (changed / 255 - MEAN) / STD)


def test_shifts_are_windows_of_the_padded_image(seen: Seen) -> None:
    moved = shifted(seen.x, AT, 0.125, flip=True)
    padded = nn.functional.pad(seen.x, (2,) * 4, mode="replicate")
    mirrored = nn.functional.pad(seen.x.flip(3), (2,) * 4, mode="replicate")
    places = []
    for image, plain, other in zip(moved, padded, mirrored):
        windows = {(f, a, b): z[:, a : a + 16, b : b + 16]
                   for f, z in enumerate((plain, other)) for a in range(5) for b in range(5)}  # fmt: skip
        places.append(next((at for at, window in windows.items() if torch.equal(window, image)), None))
    assert None not in places
    assert len(set(places)) > 5


def test_manifold_mixup_of_the_input_is_mixup_and_mixes_labels_alike(about: About, seen: Seen) -> None:
    one = view("manifold_mixup", about, layers=[""])(seen, AT)
    inside = view("manifold_mixup", about, layers=["0"])(seen, AT)
    assert torch.equal(inside.x, seen.x)
    assert torch.allclose(one.y.sum(1), torch.ones(B))
    # a flatten mixes as its input does, with the same draw
    torch.testing.assert_close(inside.inside["0"](seen.x.flatten(1)), one.x.flatten(1))
    assert torch.equal(inside.y, one.y)


def test_a_pair_shows_labelled_samples_their_own_view(about: About, seen: Seen) -> None:
    half = seen._replace(y=torch.where(torch.arange(B) < 4, seen.y, -1))
    found = view("pair", about, teacher="plain", student="strong", labelled="plain")(half, AT)
    assert torch.equal(found.teacher, seen.x)
    assert torch.equal(found.x[:4], seen.x[:4])
    assert not torch.equal(found.x[4:], seen.x[4:])
    rows = soft(half.y, K)
    assert torch.equal(view("pair", about, labelled="weak")(half._replace(y=rows), AT).x,
                       view("pair", about, labelled="weak")(half, AT).x)  # fmt: skip


def test_mixmatch_mixes_samples_and_targets_alike_and_keeps_the_larger_share(about: About, seen: Seen) -> None:
    half = seen._replace(y=torch.where(torch.arange(B) < 6, seen.y, -1))
    guesses = torch.randn(B, K, generator=seeds.torch_rng(AT))
    v = view("mixmatch", about, weak=False)
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
    torch.testing.assert_close(mixed.x, s * seen.x + (1 - s) * seen.x[order])


def test_foresee_shows_the_top_and_then_the_strip_below(about: About, seen: Seen) -> None:
    for step in range(6):
        found = view("foresee", about)(seen, AT.at(step=step))
        (strip,) = found.others
        assert strip.shape[2] == 4
        assert found.x.shape[2] in (8, 12)
        assert torch.equal(torch.cat([found.x, strip], 2), seen.x[:, :, : found.x.shape[2] + 4])


def test_views_follow_one_another_and_only_one_may_blend(about: About, seen: Seen) -> None:
    both = make({"shift": {}, "mixup": {"alpha": 0.5}}, about)
    assert both
    first = view("shift", about)(seen, AT)
    found = both(seen, AT)
    with seeds.global_at(AT.at(stream=f"{AT.stream}/1")):
        x, _ = v2.MixUp(alpha=0.5, num_classes=K)(first.x, seen.y)
    assert torch.equal(found.x, x)
    assert make({}, about) is None
    with pytest.raises(ValueError, match="only one of them can mix"):
        together(view("mixmatch", about), view("mixmatch", about))


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("mixupp", {}, r"views: unknown 'mixupp'; did you mean 'mixup'"),
        ("mixup", {"alfa": 1}, r"views.mixup: no setting 'alfa'; did you mean 'alpha'"),
        ("mixup", {"alpha": 0}, r"views.mixup.alpha: 0 is not above 0"),
        ("manifold_mixup", {"layers": ["9"]}, r"views.manifold_mixup.layers: Sequential has no module '9'"),
        ("manifold_mixup", {"layers": []}, r"needs at least one module path"),
        ("pair", {"teacher": "weka"}, r"views.pair.teacher: unknown 'weka'; did you mean 'weak'"),
        ("cutout", {"share": 1.0}, r"views.cutout.share: 1 is not above 0"),
        ("foresee", {"strips": 2}, r"views.foresee.strips: 2"),
        ("augmix", {"views": 0}, r"views.augmix.views: 0 is not 1 to 4"),
    ],
)
def test_wrong_settings_are_one_line(name: str, settings: dict[str, Any], says: str, about: About) -> None:
    with pytest.raises(ValueError, match=says):
        make({name: settings}, about)
