"""Augmentations: what student and teacher see of a batch. An augmentation is a function of a `Batch` and an address.

Pixels' transforms are torchvision's (v2), under its generators set to the address; they work on bytes, so a normalised
batch goes to 0..255 and back. On a whole batch they would draw once for all samples: they are called for each sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from raystill.platform.data.shift import shifted
from raystill.platform.objectives import Out, soft
from raystill.platform.objectives.labels import has_label
from raystill.platform.registry import checked, nearest
from raystill.platform.seeds import Address, global_at, numpy_rng
from raystill.platform.students.features import Change, module_at

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


# one sample at a time, on bytes


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
    """Each image moved by pixels of its own, at most a share of its side; perhaps mirrored.

    Args:
        x: (B, C, H, W); what enters repeats the border.
    """
    side, rng = max(1, round(share * x.shape[3])), numpy_rng(address)
    down, right = torch.from_numpy(side - rng.integers(0, 2 * side + 1, (2, len(x)))).to(x.device)
    moved = shifted(x, down, right)
    if flip:
        mirrored = torch.from_numpy(rng.random(len(x)) < 0.5).to(x.device)
        moved = torch.where(mirrored[:, None, None, None], moved.flip(3), moved)
    return moved


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
    """A view of single samples by name: plain, weak, strong, crops.

    Raises:
        ValueError: an unknown name.
    """
    maps = _transforms(context)
    if name not in maps:
        raise ValueError(f"{field}: unknown {name!r}; {nearest(name, maps)}")
    return maps[name]


def _range(field: str, value: float, low: float, high: float) -> float:
    if not low < value <= high:
        raise ValueError(f"augmentations.{field}: {value:g} is not above {low:g} and at most {high:g}")
    return value


REDRAWN = "draws anew at each step"


def _of_x(name: str, run: Transform) -> Augmentation:
    return Augmentation(lambda batch, address: batch._replace(x=run(batch.x, address)), f"{name} {REDRAWN}")


def shift(context: Context, share: float = 0.125, flip: bool = False) -> Augmentation:
    """The weak view: each image moved by up to a share of its side, perhaps mirrored."""
    _range("shift.share", share, 0, 0.5)
    return _of_x("shift", partial(weak_shift, share=share, flip=flip))


def cutout(context: Context, share: float = 0.1) -> Augmentation:
    """One square of a share of the pixels is the mean colour (DeVries 2017, 1708.04552), by `RandomErasing`.

    It lies within the image; the paper's may be cut off at the border.
    """
    return _of_x("cutout", _erase(_range("cutout.share", share, 0, 0.9)))


def randaugment(context: Context, operations: int = 2, magnitude: int = 9) -> Augmentation:
    """Random operations on each image (RandAugment, Cubuk 2020, 1909.13719)."""
    return _of_x("randaugment", _bytes(v2.RandAugment(operations, magnitude), context))


def augmix(context: Context, views: int = 2, severity: int = 3, alpha: float = 1.0) -> Augmentation:
    """Further views of each image, mixed from chains of operations (AugMix, 1912.02781); for `jensen_shannon`."""
    if not 1 <= views <= 4:
        raise ValueError(f"augmentations.augmix.views: {views} is not 1 to 4")
    run = _bytes(v2.AugMix(severity=severity, alpha=alpha), context)

    def make(batch: Batch, address: Address) -> Batch:
        mixed = tuple(run(batch.x, address.at(stream=f"{address.stream}/{i}")) for i in range(views))
        return batch._replace(views=(*batch.views, *mixed))

    return Augmentation(make, f"augmix {REDRAWN}")


# mixtures of samples


def _mixed(transform: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], name: str, classes: int) -> Augmentation:
    def make(batch: Batch, address: Address) -> Batch:
        with global_at(address):
            x, y = transform(batch.x, soft(batch.y, classes))
        return batch._replace(x=x, y=y)

    return Augmentation(make, f"{name} {REDRAWN}")


def mixup(context: Context, alpha: float = 0.2) -> Augmentation:
    """l x_i + (1 - l) x_j, labels too, l ~ Beta(alpha, alpha) for the batch (Zhang 2018, 1710.09412)."""
    return _mixed(v2.MixUp(alpha=_range("mixup.alpha", alpha, 0, 100)), "mixup", context.classes)


def cutmix(context: Context, alpha: float = 1.0) -> Augmentation:
    """A box of each image is another's, labels by area (Yun 2019, 1905.04899)."""
    return _mixed(v2.CutMix(alpha=_range("cutmix.alpha", alpha, 0, 100)), "cutmix", context.classes)


def manifold_mixup(context: Context, layers: list[str], alpha: float = 1.0) -> Augmentation:
    """Mixup of what a module puts out, drawn at each step among some (Verma 2019, 1806.05236).

    Args:
        layers: module paths of the student; the empty path is the input.

    Raises:
        ValueError: alpha <= 0, no layers, or one that does not exist.
    """
    _range("manifold_mixup.alpha", alpha, 0, 100)
    if not layers:
        raise ValueError("augmentations.manifold_mixup.layers: needs at least one module path")
    for path in layers:
        module_at(context.student, path, "augmentations.manifold_mixup.layers")

    def make(batch: Batch, address: Address) -> Batch:
        rng = numpy_rng(address)
        path, share = layers[int(rng.integers(len(layers)))], float(rng.beta(alpha, alpha))
        order = torch.from_numpy(rng.permutation(len(batch.x))).to(batch.x.device)

        def blend(h: Tensor) -> Tensor:
            return share * h + (1 - share) * h[order]

        y = blend(soft(batch.y, context.classes))
        if not path:
            return batch._replace(x=blend(batch.x), y=y)
        return batch._replace(y=y, layers={**batch.layers, path: blend})

    return Augmentation(make, f"manifold_mixup {REDRAWN}")


def mixmatch(context: Context, alpha: float = 0.75, weak: bool = True) -> Augmentation:
    """MixMatch's mixing (Berthelot 2019, 1905.02249, eqs. 8-15), after the teacher has guessed labels.

    x' = l' x_i + (1 - l') x_j over labelled and unlabelled samples alike, l' = max(l, 1 - l), the targets too. The
    target of a labelled sample becomes its label row, that of an unlabelled one the teacher's answer. One copy of each
    unlabelled sample is trained on; the paper's has as many as there are guesses.
    """
    _range("mixmatch.alpha", alpha, 0, 100)

    def make(batch: Batch, address: Address) -> Batch:
        return batch._replace(x=weak_shift(batch.x, address), teacher_x=batch.x) if weak else batch

    def blend(batch: Batch, out: Out, address: Address) -> tuple[Batch, Out]:
        rng = numpy_rng(address)
        rows = soft(batch.y, context.classes).to(out.logits)
        known = (rows != 0).any(1, keepdim=True)
        targets = torch.where(known, rows, out.logits.detach().softmax(1))
        order = torch.from_numpy(rng.permutation(len(rows))).to(rows.device)
        share = torch.from_numpy(rng.beta(alpha, alpha, len(rows))).to(rows)
        share = torch.maximum(share, 1 - share)[:, None]
        targets = share * targets + (1 - share) * targets[order]
        s = share.reshape(-1, *[1] * (batch.x.dim() - 1)).to(batch.x)
        x = s * batch.x + (1 - s) * batch.x[order]
        mixed = batch._replace(x=x, y=torch.where(known, targets, 0.0))
        return mixed, out._replace(logits=targets.clamp(min=torch.finfo(targets.dtype).tiny).log())

    return Augmentation(make, f"mixmatch {REDRAWN}", blend)


# pairs


def pair(context: Context, teacher: str = "weak", student: str = "strong", labelled: str | None = None) -> Augmentation:
    """One view for the teacher and another for the student: `plain`, `weak`, `strong` or `crops`.

    Args:
        labelled: the student's view of labelled samples, where it is another (FixMatch: weak).

    Raises:
        ValueError: an unknown kind.
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
    """The upper strips of an image, and the strip that follows as the further view: for `cpc` (1807.03748).

    How many strips are shown, two at least, is drawn for the batch. The student must take both, as the network
    `strips` does.

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
