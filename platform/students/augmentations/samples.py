"""Augmentations of single samples.

Transforms of pixels are torchvision's (v2), with the global generators seeded by the address. They work on bytes, so a
normalised batch is converted to 0..255 and back. They are called for each sample, since one call draws only once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torchvision.transforms import v2

from raystill.platform.data.shift import shifted
from raystill.platform.registry import nearest
from raystill.platform.seeds import Address, global_at, numpy_rng
from raystill.platform.students.augmentations.contract import REDRAWN, Augmentation, Batch, Context, Transform, within


def _bytes(transform: Callable[[Tensor], Tensor], context: Context) -> Transform:
    def run(x: Tensor, address: Address) -> Tensor:
        mean, std = context.mean.to(x), context.std.to(x)
        pixels = ((x * std + mean) * 255).round().clamp(0, 255).to("cpu", torch.uint8)
        with global_at(address):
            changed = torch.stack([transform(image) for image in pixels])
        return ((changed.to(x) / 255) - mean) / std

    return run


def _erase(share: float) -> Transform:
    transform = v2.RandomErasing(p=1.0, scale=(share, share), ratio=(1.0, 1.0), value=0.0)

    def run(x: Tensor, address: Address) -> Tensor:
        with global_at(address):
            return torch.stack([transform(image) for image in x])

    return run


def weak_shift(x: Tensor, address: Address, share: float = 0.125, flip: bool = False) -> Tensor:
    """Shift each image by whole pixels of its own.

    Args:
        x: (B, C, H, W); the border is repeated.
        address: of the draws.
        share: largest shift, as a share of the width.
        flip: mirror each image with probability one half.
    """
    side, rng = max(1, round(share * x.shape[3])), numpy_rng(address)
    down, right = torch.from_numpy(side - rng.integers(0, 2 * side + 1, (2, len(x)))).to(x.device)
    moved = shifted(x, down, right)
    if flip:
        mirrored = torch.from_numpy(rng.random(len(x)) < 0.5).to(x.device)
        moved = torch.where(mirrored[:, None, None, None], moved.flip(3), moved)
    # channels last in memory, even for one channel: the layout decides how a convolution sums
    b, c, h, w = x.shape
    return x.new_empty((b, h, w, c)).permute(0, 3, 1, 2).copy_(moved)


def _transforms(context: Context) -> dict[str, Transform]:
    strong, erase = _bytes(v2.RandAugment(2, 9), context), _erase(0.1)

    def strongly(x: Tensor, address: Address) -> Tensor:
        return erase(strong(x, address), address.at(stream=f"{address.stream}/erase"))

    def crops(x: Tensor, address: Address) -> Tensor:
        crop = v2.Compose([
            v2.RandomResizedCrop(x.shape[-2:], scale=(0.4, 1.0), antialias=True), v2.RandomRotation(15)
        ])  # fmt: skip
        return erase(_bytes(crop, context)(x, address), address.at(stream=f"{address.stream}/erase"))

    return {"plain": lambda x, address: x, "weak": weak_shift, "strong": strongly, "crops": crops}


def transform(context: Context, name: str, field: str) -> Transform:
    """A transform by name: plain, weak, strong or crops; ValueError, about `field`, for another name."""
    maps = _transforms(context)
    if name not in maps:
        raise ValueError(f"{field}: unknown {name!r}; {nearest(name, maps)}")
    return maps[name]


def _of_x(name: str, run: Transform) -> Augmentation:
    return Augmentation(lambda batch, address: batch._replace(x=run(batch.x, address)), f"{name} {REDRAWN}")


def shift(context: Context, share: float = 0.125, flip: bool = False) -> Augmentation:
    """Shift each image by up to a share of its width, and mirror it with probability one half if `flip`."""
    within("shift.share", share, 0, 0.5)
    return _of_x("shift", partial(weak_shift, share=share, flip=flip))


def cutout(context: Context, share: float = 0.1) -> Augmentation:
    """Set one square, a share of the pixels, to the mean colour (DeVries 2017, 1708.04552), by `RandomErasing`.

    The square lies within the image; the paper's may cross the border.
    """
    return _of_x("cutout", _erase(within("cutout.share", share, 0, 0.9)))


def randaugment(context: Context, operations: int = 2, magnitude: int = 9) -> Augmentation:
    """Random operations on each image (RandAugment, Cubuk 2020, 1909.13719)."""
    return _of_x("randaugment", _bytes(v2.RandAugment(operations, magnitude), context))


def augmix(context: Context, views: int = 2, severity: int = 3, alpha: float = 1.0) -> Augmentation:
    """Append views of each image, mixed from chains of operations, to `Batch.views` (AugMix, 1912.02781).

    The images themselves stay as they are; `jensen_shannon` reads the views.

    Args:
        context: the normalisation of the images.
        views: how many, 1 to 4.
        severity: of each operation, 1 to 10.
        alpha: of the Dirichlet and Beta distributions of the mixing weights.

    Raises:
        ValueError: `views` is out of its range.
    """
    if not 1 <= views <= 4:
        raise ValueError(f"augmentations.augmix.views: {views} is not 1 to 4")
    run = _bytes(v2.AugMix(severity=severity, alpha=alpha), context)

    def make(batch: Batch, address: Address) -> Batch:
        mixed = tuple(run(batch.x, address.at(stream=f"{address.stream}/{i}")) for i in range(views))
        return batch._replace(views=(*batch.views, *mixed))

    return Augmentation(make, f"augmix {REDRAWN}")
