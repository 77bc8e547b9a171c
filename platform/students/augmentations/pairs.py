"""Augmentations that give two views of each sample: to teacher and student, or both to the student."""

from __future__ import annotations

import torch

from raystill.platform.objectives.labels import has_label
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.students.augmentations.contract import REDRAWN, Augmentation, Batch, Context
from raystill.platform.students.augmentations.samples import transform


def pair(context: Context, teacher: str = "weak", student: str = "strong", labelled: str | None = None) -> Augmentation:
    """One view for the teacher and another for the student: `plain`, `weak`, `strong` or `crops`.

    Args:
        context: the normalisation of the images.
        teacher, student: the view of each.
        labelled: the student's view of labelled samples, where it differs (FixMatch: weak).

    Raises:
        ValueError: an unknown view.
    """
    theirs, mine = (
        transform(context, teacher, "augmentations.pair.teacher"),
        transform(context, student, "augmentations.pair.student"),
    )
    known = transform(context, labelled, "augmentations.pair.labelled") if labelled else None

    def make(batch: Batch, address: Address) -> Batch:
        def at(name: str) -> Address:
            return address.at(stream=f"{address.stream}/{name}")

        x = mine(batch.x, at("student"))
        if known:
            x = torch.where(has_label(batch.y)[:, None, None, None], known(batch.x, at("labelled")), x)
        return batch._replace(x=x, teacher_x=theirs(batch.x, at("teacher")))

    still = {teacher, student, labelled or "plain"} == {"plain"}
    return Augmentation(make, "" if still else f"pair {REDRAWN}")


def two(context: Context, kind: str = "crops") -> Augmentation:
    """Two views of each sample for the student (SimCLR): x and one further view."""
    run = transform(context, kind, "augmentations.two.kind")

    def make(batch: Batch, address: Address) -> Batch:
        first, second = (run(batch.x, address.at(stream=f"{address.stream}/{i}")) for i in range(2))
        return batch._replace(x=first, views=(*batch.views, second))

    return Augmentation(make, f"two {REDRAWN}")


def foresee(context: Context, strips: int = 4) -> Augmentation:
    """The upper strips of an image as x and the following strip as further view, for `cpc` (1807.03748).

    The number of upper strips, at least two, is drawn for the batch. The student must accept both heights, as the
    network `strips` does.

    Raises:
        ValueError: fewer than three strips.
    """
    if strips < 3:
        raise ValueError(f"augmentations.foresee.strips: {strips} is not at least 3")

    def make(batch: Batch, address: Address) -> Batch:
        height = batch.x.shape[2] // strips
        shown = int(numpy_rng(address).integers(2, strips))
        following = batch.x[:, :, shown * height : (shown + 1) * height]
        return batch._replace(x=batch.x[:, :, : shown * height], views=(*batch.views, following))

    return Augmentation(make, f"foresee {REDRAWN}")
