"""Augmentations by name: they change the batches of student and teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raystill.platform.registry import checked, nearest
from raystill.platform.students.augmentations.contract import REDRAWN, Augmentation, Batch, Context, Transform, chain
from raystill.platform.students.augmentations.mixtures import cutmix, manifold_mixup, mixmatch, mixup
from raystill.platform.students.augmentations.pairs import foresee, pair, two
from raystill.platform.students.augmentations.samples import augmix, cutout, randaugment, shift, transform, weak_shift

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
"""Every augmentation by name, as a function of the context and its settings."""


def make(names: Mapping[str, Mapping[str, Any] | None], context: Context) -> Augmentation | None:
    """Chain augmentations given by name and settings; None without any.

    Raises:
        ValueError: an unknown name or setting, or a setting out of its range.
    """
    chosen = []
    for name, settings in names.items():
        if name not in AUGMENTATIONS:
            raise ValueError(f"augmentations: unknown {name!r}; {nearest(name, AUGMENTATIONS)}")
        chosen.append(
            AUGMENTATIONS[name](context, **checked(f"augmentations.{name}", AUGMENTATIONS[name], settings or {}, 1))
        )
    return chain(*chosen) if chosen else None
