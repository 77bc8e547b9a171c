"""What an augmentation is: a function of a `Batch` and an address."""

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
    """A batch as it is looked at.

    Attributes:
        x: what the student sees (B, C, H, W).
        y: ids (B,), -1 for no label, or rows (B, K), zeros for no label.
        teacher_x: what the teacher sees of the same samples; None is x.
        views: further views for the student.
        layers: changes of what modules of the student put out, by module path.
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
        changes: why a sample looks different at each step; empty where it does not, and cached logits serve.
        blend: (batch, the teacher's answers, address) -> both, mixed after the teacher has answered (MixMatch).
    """

    make: Callable[[Batch, Address], Batch]
    changes: str = ""
    blend: Callable[[Batch, Out, Address], tuple[Batch, Out]] | None = None

    def __call__(self, batch: Batch, address: Address) -> Batch:
        """The batch as student and teacher see it."""
        return self.make(batch, address)


class Context(NamedTuple):
    """What views are made for: the classes, the normalisation of pixels / 255 ([C, 1, 1] each), and the student."""

    classes: int
    mean: Tensor
    std: Tensor
    student: nn.Module


def chain(*augmentations: Augmentation) -> Augmentation:
    """Augmentations one after another; at most one blends.

    Raises:
        ValueError: two that blend.
    """
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
    """A setting that is above `low` and at most `high`.

    Raises:
        ValueError: it is not; the message names `augmentations.FIELD`.
    """
    if not low < value <= high:
        raise ValueError(f"augmentations.{field}: {value:g} is not above {low:g} and at most {high:g}")
    return value


REDRAWN = "draws anew at each step"
