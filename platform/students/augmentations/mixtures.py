"""Augmentations that mix the samples of a batch and their labels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2

from raystill.platform.objectives import Out, soft
from raystill.platform.seeds import Address, global_at, numpy_rng
from raystill.platform.students.augmentations.contract import REDRAWN, Augmentation, Batch, Context, within
from raystill.platform.students.augmentations.samples import weak_shift
from raystill.platform.students.features import module_at


def _mixed(transform: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], name: str, classes: int) -> Augmentation:
    def make(batch: Batch, address: Address) -> Batch:
        with global_at(address):
            x, y = transform(batch.x, soft(batch.y, classes))
        return batch._replace(x=x, y=y)

    return Augmentation(make, f"{name} {REDRAWN}")


def mixup(context: Context, alpha: float = 0.2) -> Augmentation:
    """l x_i + (1 - l) x_j, labels too, l ~ Beta(alpha, alpha) for the batch (Zhang 2018, 1710.09412)."""
    return _mixed(v2.MixUp(alpha=within("mixup.alpha", alpha, 0, 100)), "mixup", context.classes)


def cutmix(context: Context, alpha: float = 1.0) -> Augmentation:
    """Replace a box of each image by another's; labels are mixed by area (Yun 2019, 1905.04899)."""
    return _mixed(v2.CutMix(alpha=within("cutmix.alpha", alpha, 0, 100)), "cutmix", context.classes)


def manifold_mixup(context: Context, layers: list[str], alpha: float = 1.0) -> Augmentation:
    """Mixup of the output of a module, drawn at each step from `layers` (Verma 2019, 1806.05236).

    Args:
        layers: module paths of the student; the empty path is the input.

    Raises:
        ValueError: alpha <= 0, no layers, or an unknown path.
    """
    within("manifold_mixup.alpha", alpha, 0, 100)
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
    """MixMatch's mixing (Berthelot 2019, 1905.02249, eqs. 8-15), with the teacher's answers as guessed labels.

    x' = l' x_i + (1 - l') x_j over labelled and unlabelled samples, l' = max(l, 1 - l), l ~ Beta(alpha, alpha), and
    likewise the targets: label rows, and the teacher's answers to unlabelled samples. Each unlabelled sample occurs
    once; in the paper, once for each guess. With `weak`, the student's input is shifted first.
    """
    within("mixmatch.alpha", alpha, 0, 100)

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
