"""Images, learned as pixels or as a sum of resolutions, with hard or learned soft labels and learned rates.

Dataset distillation (1811.10959, Algorithm 1) and its soft-label form (1910.02551); with frozen images, label
distillation (2006.08572).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raystill.platform import seeds
from raystill.platform.data import DataSet
from raystill.platform.meta import Steps
from raystill.platform.spec import DistillSpec
from raystill.platform.synthesis import labels, rates, selection
from raystill.platform.synthesis.augment import augmented
from raystill.platform.synthesis.synthesizer import LEARN, Meta, Synthesizer


def _start_images(spec: DistillSpec, data: DataSet, images: int, address: seeds.Address) -> np.ndarray:
    """First images [S, M, C, H, W], normalised."""
    part = spec.synthesizer
    if part.start == "noise":
        shape = (part.steps, images, *data.shape)
        return np.float32(part.noise) * seeds.numpy_rng(address).standard_normal(shape, dtype=np.float32)
    return selection.normalised_steps(part.start, data, part.steps, images, address)[0]


def _enlarge(small: int, large: int) -> Tensor:
    """Linear interpolation from `small` to `large` points as a matrix [large, small]: deterministic on any device."""
    return F.interpolate(torch.eye(small)[None], size=large, mode="linear")[0].T.contiguous()


def _composed(meta: Mapping[str, Tensor], coarser: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
    """Images [S, M, C, H, W]: the sum of the pixels and every coarser layer, enlarged."""
    x = meta["images"]
    for name, (rows, columns) in coarser.items():
        x = x + rows.to(x) @ meta[name] @ columns.to(x).T
    return x


def images(
    spec: DistillSpec, shape: tuple[int, int, int], classes: int, relabels: Sequence[tuple[int, int]]
) -> Synthesizer:
    """The synthesizer of kind images.

    Args:
        spec, shape, classes: as of `synthesis.build`.
        relabels: (class, class that takes its place) for label_start wanted.

    Raises:
        ValueError: fewer images than classes with hard labels, or a field that only kind generator has.
    """
    part, inner = spec.synthesizer, spec.inner
    count = part.images or part.per_class * classes
    if part.curriculum != "full":
        raise ValueError(f"synthesizer.curriculum: {part.curriculum!r} is for kind generator; images take 'full'")
    if count < classes and part.labels == "hard":
        raise ValueError(
            f"synthesizer.images: {count} images with hard labels can not name {classes} classes; "
            "set synthesizer.labels to soft, or take one image per class"
        )
    order = torch.arange(spec.unroll) % part.steps
    # Adam changes all parameters at one rate: coarser layers let it change large shapes as fast as single pixels
    sides = {f"images/{2**k}": [-(-n // 2**k) for n in shape[1:]] for k in range(1, part.scales)}
    coarser = {k: (_enlarge(h, shape[1]), _enlarge(w, shape[2])) for k, (h, w) in sides.items()}
    wanted = tuple(relabels) if part.label_start == "wanted" else ()
    hard = torch.from_numpy(labels.ids(count, classes, wanted))

    def check(data: DataSet) -> None:
        if part.start != "noise":
            selection.enough(data.train, data.classes, part.steps * math.ceil(count / classes))

    def start(data: DataSet, address: seeds.Address) -> Meta:
        meta: Meta = {"images": _start_images(spec, data, count, address)}
        for name, side in sides.items():
            meta[name] = np.zeros((part.steps, count, shape[0], *side), np.float32)
        if part.labels == "soft":
            at = address.at(stream=f"{address.stream}/labels")
            make = labels.STARTS[part.label_start]
            meta["labels"] = np.stack([make(count, data, wanted, at.at(step=s)) for s in range(part.steps)])
        return {**meta, **rates.start(inner, spec.unroll)}

    def steps(meta: Mapping[str, Tensor], address: seeds.Address) -> Steps:
        device = meta["images"].device
        x = _composed(meta, coarser)[order.to(device)]
        x = x.detach() if part.frozen else x
        if part.augment and address.stream == LEARN:
            x = augmented(x, part.augment, address)
        y = meta["labels"][order.to(device)] if "labels" in meta else hard.to(device).expand(spec.unroll, -1)
        return Steps(x, y, rates.rates(inner, meta, address))

    learned = {
        **({} if part.frozen else {"images": "lr", **dict.fromkeys(sides, "lr")}),
        **({"labels": "label_lr"} if part.labels == "soft" else {}),
        **rates.groups(inner),
    }
    return Synthesizer(check, start, steps, order.numpy(), learned)
