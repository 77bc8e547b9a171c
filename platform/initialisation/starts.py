"""Where learners start: theta0 ~ p(theta0) as a function of the address.

Training, validation and assessment draw from different streams, and from different parts of a pool: what is reported is
measured on networks that neither taught the data nor chose it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raystill.platform import registry
from raystill.platform.data import DataSet
from raystill.platform.initialisation import pools
from raystill.platform.learners import Learner
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import DistillSpec, InitialisationSpec

Start = Callable[[Learner, Address], Tensor]
"""(the run's learner, address) -> theta0[P] on the CPU, float32."""


@dataclass(frozen=True)
class Initialisation:
    """Where learners start, and what is to be known of it.

    Attributes:
        start: of a learner and an address; calling the initialisation calls it.
        single: whether all networks start from one, whose weights then are part of the result.
        check: (learner, data) -> sha256 of what `initialisation.path` holds; it raises ValueError where that does not
            fit. None for one that reads no path.
    """

    start: Start
    single: bool = False
    check: Callable[[Learner, DataSet], str] | None = None

    def __call__(self, learner: Learner, address: Address) -> Tensor:
        """theta0[P] on the CPU, float32."""
        return self.start(learner, address)


KEPT = 256
"""Networks of a pool that an evaluator keeps in memory."""

PART_OF = {"validate": "validation", "assess": "test"}
"""First word of an address's stream -> the part of a pool that it draws from; else `train`."""


def _own(address: Address) -> Address:
    return address.at(stream=f"{address.stream}/theta0")


def fresh(learner: Learner, address: Address) -> Tensor:
    """The address's own network."""
    return learner.init(_own(address))


def random(spec: DistillSpec) -> Initialisation:
    """A network of each address's own."""
    return Initialisation(fresh)


def fixed(spec: DistillSpec) -> Initialisation:
    """One network, drawn by the run's seed."""
    return Initialisation(lambda learner, address: learner.init(Address(spec.run.seed, stream="theta0")), single=True)


def pool(spec: DistillSpec) -> Initialisation:
    """Networks of a pool: any of its train part while learning, its held-out ones in turn for the other parts."""
    opened = _opened(spec.initialisation)
    read = lru_cache(KEPT)(opened.theta)

    def start(learner: Learner, address: Address) -> Tensor:
        part = PART_OF.get(address.stream.partition("/")[0], "train")
        if part == "train":
            member = int(numpy_rng(_own(address)).integers(opened.count(part)))
        else:  # in turn: each held-out network once, as long as there are enough
            member = address.member % opened.count(part)
        return torch.from_numpy(np.array(read(part, member)))

    def check(learner: Learner, data: DataSet) -> str:
        opened.need(spec.learner, learner.size, data)
        _enough(spec, opened)
        return opened.content

    return Initialisation(start, check=check)


def pretrained(spec: DistillSpec) -> Initialisation:
    """One pre-trained network, of a pool or of a file of weights."""
    path = _path(spec.initialisation)

    @lru_cache(1)
    def weights(learner: Learner) -> tuple[np.ndarray, str]:
        return _one(spec.initialisation, learner)

    def check(learner: Learner, data: DataSet) -> str:
        if path.is_dir():
            _opened(spec.initialisation).need(spec.learner, learner.size, data)
        return weights(learner)[1]

    return Initialisation(lambda learner, _: torch.from_numpy(np.array(weights(learner)[0])), single=True, check=check)


INITIALISATIONS: dict[str, Callable[..., Initialisation | Start]] = {
    "random": random,
    "fixed": fixed,
    "pool": pool,
    "pretrained": pretrained,
}
"""Every initialisation by name: a function of the spec, and of settings where it has some."""


def build(spec: DistillSpec, plugins: registry.Plugins | None = None) -> Initialisation:
    """The initialisation of a spec. One of the user's own may give a plain `Start`.

    Raises:
        ValueError: an unknown kind or setting, a path that is missing or not read, a pool that is not here, or another
            than the run was planned with.
    """
    field, section = "initialisation.kind", spec.initialisation
    part = registry.bound("initialisations", section.kind, INITIALISATIONS, plugins, field, own=1)(spec)
    initialisation = part if isinstance(part, Initialisation) else Initialisation(part)
    if initialisation.check is None and section.path is not None:
        raise ValueError(f"{field}: {section.kind} takes no initialisation.path")
    return initialisation


def resolved(
    spec: DistillSpec, learner: Learner, data: DataSet, plugins: registry.Plugins | None = None
) -> DistillSpec:
    """The spec with its pool found, checked against learner and data, and known by its content.

    Raises:
        ValueError: one line: no pool, one for other classes, architecture or shape, or too few held-out networks.
    """
    section = spec.initialisation
    if section.path is not None:
        section = section.model_copy(update={"path": pools.absolute(section.path)})
        spec = spec.model_copy(update={"initialisation": section})
    initialisation = build(spec, plugins)
    content = initialisation.check(learner, data) if initialisation.check else None
    facts = {"content": content, "single": initialisation.single}
    return spec.model_copy(update={"initialisation": section.model_copy(update=facts)})


def _enough(spec: DistillSpec, pool: pools.Pool) -> None:
    asked = {"validation": ("validation.networks", spec.validation.networks),
             "test": ("assess.networks", spec.assess.networks)}  # fmt: skip
    for part, (field, count) in asked.items():
        if count > pool.count(part):
            raise ValueError(
                f"{field}: {count}, but the pool {pool.path} holds out {pool.count(part)} networks for {part}; ask for "
                "fewer, or pretrain with a larger held_out"
            )


def _opened(spec: InitialisationSpec) -> pools.Pool:
    path = _path(spec)
    pool = pools.open_pool(path)
    if spec.content not in (None, pool.content):
        raise ValueError(f"initialisation.path: {path} holds another pool than this run was planned with")
    return pool


def _one(spec: InitialisationSpec, learner: Learner) -> tuple[np.ndarray, str]:
    """The one pre-trained network, and the sha256 of what it was read from."""
    path = _path(spec)
    if path.is_dir() or not path.exists():
        pool = _opened(spec)
        if spec.member >= pool.count("train"):
            raise ValueError(f"initialisation.member: {spec.member}, but the pool has {pool.count('train')} networks")
        return pool.theta("train", spec.member), pool.content
    names = {name: tuple(p.shape) for name, p in learner.module.named_parameters()}
    theta, content = pools.weights_of(path, names)
    if spec.content not in (None, content):
        raise ValueError(f"initialisation.path: {path} holds other weights than this run was planned with")
    return theta, content


def _path(spec: InitialisationSpec) -> Path:
    if spec.path is None:
        raise ValueError(f"initialisation.kind: {spec.kind} needs initialisation.path")
    return spec.path
