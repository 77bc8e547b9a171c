"""A generative teaching network (Such et al. 2020, PMLR 119:9206): a generator makes images from learned latents.

The generator's weights are learned, and one latent for each image of each step (the curriculum), the rates of the steps
and, where the spec asks for them, soft labels.

Other curricula test the value of the learned order: `batch-shuffled` draws the order of the batches, `all-shuffled`
that of all images; `none` draws noise in place of latents; `pixels` learns the images themselves, within the same
bounds and without a generator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raystill.platform import seeds
from raystill.platform.data import DataSet
from raystill.platform.meta import Steps
from raystill.platform.spec import DistillSpec
from raystill.platform.synthesis import generator_network, rates
from raystill.platform.synthesis.synthesizer import Meta, Synthesizer

PAINTED = 512
"""Images that the generator makes at a time, few enough for a CPU's cache."""
BEYOND = 0.3
"""First rate of the steps after the learned ones, as a share of the learned rate; the full rate lowers accuracy."""


def _refuse(spec: DistillSpec, count: int, classes: int) -> None:
    part = spec.synthesizer
    for field, value, default in (
        ("start", part.start, "noise"), ("scales", part.scales, 1), ("augment", part.augment, ()),
        ("frozen", part.frozen, False), ("label_start", part.label_start, "hard"),
    ):  # fmt: skip
        if value != default:
            raise ValueError(f"synthesizer.{field}: {value!r} is for kind images; a generator takes {default!r}")
    if part.steps * count < classes:
        raise ValueError(
            f"synthesizer.images: {part.steps} steps of {count} images can not name {classes} classes; take more"
        )


def generator(
    spec: DistillSpec, shape: tuple[int, int, int], classes: int, relabels: Sequence[tuple[int, int]]
) -> Synthesizer:
    """The synthesizer of kind generator.

    Args:
        spec, shape, classes: as of `synthesis.build`.
        relabels: unused; a generator refuses such label starts.

    Raises:
        ValueError: fewer images than classes, or a field that only kind images has.
    """
    part, inner = spec.synthesizer, spec.inner
    count, learned_steps = part.images or part.per_class * classes, part.steps
    _refuse(spec, count, classes)
    order = torch.arange(spec.unroll) % learned_steps
    # classes repeat over all steps, so that each has its share whatever the size of a step
    named = torch.arange(learned_steps * count) % classes
    painted, noisy = part.curriculum != "pixels", part.curriculum == "none"

    def check(data: DataSet) -> None:
        """Nothing to check: a generator starts from noise."""

    def start(data: DataSet, address: seeds.Address) -> Meta:
        rng = seeds.numpy_rng(address)
        meta: Meta = generator_network.start(part, shape, classes, address) if painted else {}
        if not noisy:
            size = (part.latent,) if painted else shape
            spread = np.float32(1.0 if painted else part.noise)
            meta["latents"] = spread * rng.standard_normal((learned_steps, count, *size), dtype=np.float32)
        if part.labels == "soft":
            meta["labels"] = F.one_hot(named, classes).float().view(learned_steps, count, classes).numpy()
        return {**meta, **rates.start(inner, spec.unroll)}

    def paint(meta: Mapping[str, Tensor], z: Tensor, classes_of: Tensor) -> Tensor:
        if not painted:
            return generator_network.REACH * torch.tanh(z / generator_network.REACH)
        rows = F.one_hot(classes_of, classes).to(z)
        return torch.cat([
            generator_network.paint(part, shape, meta, *piece) for piece in zip(z.split(PAINTED), rows.split(PAINTED))
        ])  # fmt: skip

    def latents(meta: Mapping[str, Tensor], address: seeds.Address, images: int) -> Tensor:
        """Latents [images, ...] in the order of the curriculum; noise is drawn on the CPU."""
        if not noisy:
            return meta["latents"].flatten(0, 1)
        rng = seeds.torch_rng(address.at(stream=f"{address.stream}/noise"))
        return torch.randn(images, part.latent, generator=rng).to(meta["map/b"])

    def shuffled(address: seeds.Address) -> Tensor:
        """The index of the learned image at each place of the steps, [S * M]."""
        places = torch.arange(learned_steps * count)
        rng = seeds.torch_rng(address.at(stream=f"{address.stream}/order"))
        if part.curriculum == "batch-shuffled":
            return places.view(learned_steps, count)[torch.randperm(learned_steps, generator=rng)].flatten()
        return places[torch.randperm(len(places), generator=rng)] if part.curriculum == "all-shuffled" else places

    def steps(meta: Mapping[str, Tensor], address: seeds.Address) -> Steps:
        device = meta["lr"].device
        x = paint(meta, latents(meta, address, len(named)), named.to(device))
        y = meta["labels"].flatten(0, 1) if "labels" in meta else named.to(device)
        # shuffled after the generator: an image has the same bits in any place
        places = shuffled(address).view(learned_steps, count)[order].to(device)
        return Steps(x[places], y[places], rates.rates(inner, meta, address))

    def longer(meta: Mapping[str, Tensor], length: int, address: seeds.Address) -> Steps:
        """The learned steps, then steps of new images.

        Their rate falls to 0 from a share of the mean of the last quarter, their momentum stays at that mean. A new
        latent interpolates two learned ones of its class, from the second half of the curriculum where that has each
        class, rescaled to their distance from the origin; without learned latents it is noise.
        """
        own = steps(meta, address)
        more = length - own.length
        if more <= 0:
            return own.map(lambda z: z[:length])
        address = address.at(stream=f"{address.stream}/longer")
        names = torch.arange(more * count) % classes
        one, two, share = _between(names, address)
        a, b = share.to(meta["lr"]), 1 - share.to(meta["lr"])
        if noisy:
            z = latents(meta, address, len(names))
        else:
            z = meta["latents"].flatten(0, 1)
            z = (a * z[one] + b * z[two]) / (a.square() + b.square()).sqrt()
        rows = meta["labels"].flatten(0, 1) if "labels" in meta else None
        y = names.to(own.y) if rows is None else a * rows[one] + b * rows[two]
        x = paint(meta, z, names.to(z.device))
        x, y = (part.unflatten(0, (more, count)) for part in (x, y))
        last = {k: v[-max(1, len(v) // 4) :].mean().expand(more) for k, v in own.hyper.items()}
        last["lr"] = last["lr"] * (BEYOND * (1 - torch.arange(more) / more)).to(last["lr"])
        hyper = {k: torch.cat([v, last[k]]) for k, v in own.hyper.items()}
        return Steps(torch.cat([own.x, x]), torch.cat([own.y, y]), hyper)

    def _between(names: Tensor, address: seeds.Address) -> tuple[Tensor, Tensor, Tensor]:
        """Draw two places of each name's class in the curriculum's second half, and the share of the first [N, 1]."""
        late = len(named) // 2 if len(named) // 2 >= classes else 0
        rng = seeds.numpy_rng(address)
        known = [np.flatnonzero(named.numpy()[late:] == k) + late for k in range(classes)]
        one, two = (torch.from_numpy(np.array([rng.choice(known[k]) for k in names])) for _ in range(2))
        return one, two, torch.from_numpy(rng.random((len(names), 1), dtype=np.float32))

    learned = {
        **(dict.fromkeys(generator_network.names(part, shape, classes), "lr") if painted else {}),
        **({} if noisy else {"latents": "lr"}),
        **({"labels": "label_lr"} if part.labels == "soft" else {}),
        **rates.groups(inner),
    }
    return Synthesizer(check, start, steps, order.numpy(), learned, longer if painted else None)
