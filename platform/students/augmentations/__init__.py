"""Augmentations: what student and teacher see of a batch, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raystill.platform.registry import checked, nearest
from raystill.platform.students.augmentations.contract import REDRAWN, Augmentation, Batch, Context, Transform, chain
from raystill.platform.students.augmentations.mixtures import cutmix, manifold_mixup, mixmatch, mixup
from raystill.platform.students.augmentations.pairs import foresee, pair, two
from raystill.platform.students.augmentations.samples import (
    augmix,
    cutout,
    randaugment,
    shift,
    transform,
    weak_shift,
)

__all__ = [
    "AUGMENTATIONS", "REDRAWN", "Augmentation", "Batch", "Context", "Transform", "chain", "make", "transform",
    "weak_shift",
]  # fmt: skip

AUGMENTATIONS: dict[str, Callable[..., Augmentation]] = {
    "shift": shift,
    "cutout": cutout,
    "randaugment": randaugment,
    "augmix": augmix,
    "mixup": mixup,
    "cutmix": cutmix,
    "manifold_mixup": manifold_mixup,
    "mixmatch": mixmatch,
    "pair": pair,
    "two": two,
    "foresee": foresee,
}
"""Every view by name, as the function that makes it from what it is made for and its settings."""


def make(names: Mapping[str, Mapping[str, Any] | None], context: Context) -> Augmentation | None:
    """Augmentations by name and settings, in their order; None for none.

    Raises:
        ValueError: an unknown name or setting (the nearest valid one is named), or one out of its range.
    """
    found = []
    for name, settings in names.items():
        if name not in AUGMENTATIONS:
            raise ValueError(f"augmentations: unknown {name!r}; {nearest(name, AUGMENTATIONS)}")
        found.append(
            AUGMENTATIONS[name](context, **checked(f"augmentations.{name}", AUGMENTATIONS[name], settings or {}, 1))
        )
    return chain(*found) if found else None
