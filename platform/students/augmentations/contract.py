"""The contract of an augmentation: a function of a `Batch` and an address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from raystill.platform.objectives import Out
from raystill.platform.seeds import Address
from raystill.platform.students.features import Change

Transform = Callable[[Tensor, Address], Tensor]


class Batch(NamedTuple):
    """The inputs of student and teacher in one step.

    Attributes:
        x: the student's input (B, C, H, W).
        y: ids (B,), -1 for no label, or rows (B, K), zeros for no label.
        teacher_x: the teacher's input, of the same samples; None is x.
        views: further inputs of the student, of the same samples.
        layers: functions that replace outputs of the student's modules, by module path.
    """

    x: Tensor
    y: Tensor
    teacher_x: Tensor | None = None
    views: tuple[Tensor, ...] = ()
    layers: Mapping[str, Change] = {}


@dataclass(frozen=True, eq=False)
class Augmentation:
    """Call it with (batch, address) for another `Batch`.

    Attributes:
        make: the function.
        changes: why a sample differs from step to step; "" where it does not, so that logits can be cached.
        blend: (batch, the teacher's answers, address) -> both, mixed (MixMatch).
    """

    make: Callable[[Batch, Address], Batch]
    changes: str = ""
    blend: Callable[[Batch, Out, Address], tuple[Batch, Out]] | None = None

    def __call__(self, batch: Batch, address: Address) -> Batch:
        """Augment a batch."""
        return self.make(batch, address)


class Context(NamedTuple):
    """Number of classes, mean and std of pixels / 255 ([C, 1, 1] each), and the student."""

    classes: int
    mean: Tensor
    std: Tensor
    student: nn.Module


def chain(*augmentations: Augmentation) -> Augmentation:
    """Apply augmentations one after another; ValueError where two of them blend."""
    blends = [a.blend for a in augmentations if a.blend]
    if len(blends) > 1:
        raise ValueError("augmentations: only one of them can mix after the teacher's answer")

    def make(batch: Batch, address: Address) -> Batch:
        for i, augmentation in enumerate(augmentations):
            batch = augmentation(batch, address.at(stream=f"{address.stream}/{i}"))
        return batch

    why = "; ".join(a.changes for a in augmentations if a.changes)
    return Augmentation(make, why, blends[0] if blends else None)


def within(field: str, value: float, low: float, high: float) -> float:
    """Return a setting that is above `low` and at most `high`.

    Args:
        field: of `augmentations`, for the error.
        value: the setting.
        low, high: its bounds.

    Raises:
        ValueError: the setting is out of bounds.
    """
    if not low < value <= high:
        raise ValueError(f"augmentations.{field}: {value:g} is not above {low:g} and at most {high:g}")
    return value


REDRAWN = "draws anew at each step"
