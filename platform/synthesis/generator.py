"""A generative teaching network: a generator with a learned curriculum of latents writes the training data.

Learned are the generator's weights, one latent for each image of each step (the curriculum), soft labels where they are
asked for, and the rates of the steps. "Generative Teaching Networks" (Such et al. 2020, PMLR 119:9206).

The latents' order is a part of what is learned. What it is worth is told by the other curricula: `batch-shuffled`
draws the order of the batches, `all-shuffled` that of all images, from the address of each use; `none` draws noise in
place of latents; `pixels` learns the images themselves, in the same bounds and without a generator.
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
"""Images that the generator paints at a time: as many as stay in a cache."""
BEYOND = 0.3
"""Share of the learned rate at which steps behind the learned ones begin; at the whole of it they do harm."""


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
    """The synthesizer of a spec's `synthesizer` and `inner` sections; its arguments are those of `synthesis.build`.

    Raises:
        ValueError: fewer images than classes, or a field that only images have.
    """
    part, inner = spec.synthesizer, spec.inner
    count, steps_made = part.images or part.per_class * classes, part.steps
    _refuse(spec, count, classes)
    order = torch.arange(spec.unroll) % steps_made
    # classes go round and round, so that every class has its share whatever the size of a step
    named = torch.arange(steps_made * count) % classes
    painted, noisy = part.curriculum != "pixels", part.curriculum == "none"

    def check(data: DataSet) -> None:
        """A generator starts from noise, which any data can give."""

    def start(data: DataSet, address: seeds.Address) -> Meta:
        rng = seeds.numpy_rng(address)
        meta: Meta = generator_network.start(part, shape, classes, address) if painted else {}
        if not noisy:
            size = (part.latent,) if painted else shape
            spread = np.float32(1.0 if painted else part.noise)
            meta["latents"] = spread * rng.standard_normal((steps_made, count, *size), dtype=np.float32)
        if part.labels == "soft":
            meta["labels"] = F.one_hot(named, classes).float().view(steps_made, count, classes).numpy()
        return {**meta, **rates.start(inner, spec.unroll)}

    def paint(meta: Mapping[str, Tensor], z: Tensor, classes_of: Tensor) -> Tensor:
        if not painted:
            return generator_network.REACH * torch.tanh(z / generator_network.REACH)
        rows = F.one_hot(classes_of, classes).to(z)
        return torch.cat([
            generator_network.paint(part, shape, meta, *piece) for piece in zip(z.split(PAINTED), rows.split(PAINTED))
        ])  # fmt: skip

    def latents(meta: Mapping[str, Tensor], address: seeds.Address, images: int) -> Tensor:
        """[images, ...], in the order of the curriculum; noise is drawn on the CPU."""
        if not noisy:
            return meta["latents"].flatten(0, 1)
        rng = seeds.torch_rng(address.at(stream=f"{address.stream}/noise"))
        return torch.randn(images, part.latent, generator=rng).to(meta["map/b"])

    def shuffled(address: seeds.Address) -> Tensor:
        """Which learned image each place of the steps holds, [S * M]."""
        places = torch.arange(steps_made * count)
        rng = seeds.torch_rng(address.at(stream=f"{address.stream}/order"))
        if part.curriculum == "batch-shuffled":
            return places.view(steps_made, count)[torch.randperm(steps_made, generator=rng)].flatten()
        return places[torch.randperm(len(places), generator=rng)] if part.curriculum == "all-shuffled" else places

    def steps(meta: Mapping[str, Tensor], address: seeds.Address) -> Steps:
        device = meta["lr"].device
        x = paint(meta, latents(meta, address, len(named)), named.to(device))
        y = meta["labels"].flatten(0, 1) if "labels" in meta else named.to(device)
        # shuffled once painted: the same image has the same bits in any place
        places = shuffled(address).view(steps_made, count)[order].to(device)
        return Steps(x[places], y[places], rates.rates(inner, meta, address))

    def longer(meta: Mapping[str, Tensor], length: int, address: seeds.Address) -> Steps:
        """The learned steps, then steps of new images, whose rate falls to 0 from a share of the last learned ones'.

        "Last" is the mean of the last quarter; momentum keeps it. A new image's latent lies between two learned ones of
        its class (as far from the origin as those are), which the second half of the curriculum has, where it has each
        class; it is fresh noise where latents are not learned.
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
        """Two places of each name's class in the curriculum's second half, drawn, and the first one's share [N, 1]."""
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
