"""Initialisations: theta0 ~ p(theta0) as a function of an address.

Training, validation and assessment draw from different streams and from different parts of a pool, so results are
evaluated on networks that took no part in learning or choosing the data.
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
    """The distribution that learners start from.

    Attributes:
        start: (learner, address) -> theta0.
        single: whether every address gets the same theta0, which then is part of the result.
        check: (learner, data) -> sha256 of the contents of `initialisation.path`; raises ValueError where they do not
            fit. None for an initialisation that reads no path.
    """

    start: Start
    single: bool = False
    check: Callable[[Learner, DataSet], str] | None = None

    def __call__(self, learner: Learner, address: Address) -> Tensor:
        """theta0[P] on the CPU, float32."""
        return self.start(learner, address)


CACHED = 256
"""Networks of a pool that an evaluator keeps in memory."""

PART_OF = {"validate": "validation", "assess": "test"}
"""First word of an address's stream -> part of a pool; all other streams draw from `train`."""


def _own(address: Address) -> Address:
    return address.at(stream=f"{address.stream}/theta0")


def fresh(learner: Learner, address: Address) -> Tensor:
    """theta0 [P] drawn by an address alone."""
    return learner.init(_own(address))


def random(spec: DistillSpec) -> Initialisation:
    """Another network for each address."""
    return Initialisation(fresh)


def fixed(spec: DistillSpec) -> Initialisation:
    """One network for all addresses, drawn by the run's seed."""
    return Initialisation(lambda learner, address: learner.init(Address(spec.run.seed, stream="theta0")), single=True)


def pool(spec: DistillSpec) -> Initialisation:
    """Networks of a pool: random ones of its part `train` in training, the others in turn in evaluations."""
    networks = _open(spec.initialisation)
    read = lru_cache(CACHED)(networks.theta)

    def start(learner: Learner, address: Address) -> Tensor:
        part = PART_OF.get(address.stream.partition("/")[0], "train")
        if part == "train":
            member = int(numpy_rng(_own(address)).integers(networks.count(part)))
        else:  # in turn, so that no held-out network is used twice while there are enough
            member = address.member % networks.count(part)
        return torch.from_numpy(np.array(read(part, member)))

    def check(learner: Learner, data: DataSet) -> str:
        networks.need(spec.learner, learner.size, data)
        _need_enough(spec, networks)
        return networks.content

    return Initialisation(start, check=check)


def pretrained(spec: DistillSpec) -> Initialisation:
    """One pre-trained network for all addresses, from a pool or a file of weights."""
    path = _path(spec.initialisation)

    @lru_cache(1)
    def weights(learner: Learner) -> tuple[np.ndarray, str]:
        return _one(spec.initialisation, learner)

    def check(learner: Learner, data: DataSet) -> str:
        if path.is_dir():
            _open(spec.initialisation).need(spec.learner, learner.size, data)
        return weights(learner)[1]

    return Initialisation(lambda learner, _: torch.from_numpy(np.array(weights(learner)[0])), single=True, check=check)


INITIALISATIONS: dict[str, Callable[..., Initialisation | Start]] = {
    "random": random,
    "fixed": fixed,
    "pool": pool,
    "pretrained": pretrained,
}
"""Initialisations by name: functions of the spec and of their own settings."""


def build(spec: DistillSpec, plugins: registry.Plugins | None = None) -> Initialisation:
    """The initialisation of a spec; a plug-in may return a plain `Start`.

    Raises:
        ValueError: an unknown kind or setting, a path that is missing or not used, a pool that is missing, or another
            one than the run was planned with.
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
    """The spec with an absolute `initialisation.path`, the sha256 of its contents, and whether theta0 is single.

    Args:
        learner: of the spec, whose size a pool must have.
        data: whose shape, classes and normalisation a pool must have.
        plugins: parts that the caller passes.

    Raises:
        ValueError: the pool is missing, does not fit learner or data, or has too few held-out networks.
    """
    section = spec.initialisation
    if section.path is not None:
        section = section.model_copy(update={"path": pools.absolute(section.path)})
        spec = spec.model_copy(update={"initialisation": section})
    initialisation = build(spec, plugins)
    content = initialisation.check(learner, data) if initialisation.check else None
    facts = {"content": content, "single": initialisation.single}
    return spec.model_copy(update={"initialisation": section.model_copy(update=facts)})


def _need_enough(spec: DistillSpec, pool: pools.Pool) -> None:
    required = {"validation": ("validation.networks", spec.validation.networks),
             "test": ("assess.networks", spec.assess.networks)}  # fmt: skip
    for part, (field, count) in required.items():
        if count > pool.count(part):
            raise ValueError(
                f"{field}: {count}, but the pool {pool.path} has {pool.count(part)} held-out networks for {part}; "
                "ask for fewer, or pretrain with a larger held_out"
            )


def _open(spec: InitialisationSpec) -> pools.Pool:
    path = _path(spec)
    pool = pools.open_pool(path)
    if spec.content not in (None, pool.content):
        raise ValueError(f"initialisation.path: {path} is another pool than this run was planned with")
    return pool


def _one(spec: InitialisationSpec, learner: Learner) -> tuple[np.ndarray, str]:
    """Weights [P] of the one pre-trained network, and the sha256 of its pool or file."""
    path = _path(spec)
    if path.is_dir() or not path.exists():
        pool = _open(spec)
        if spec.member >= pool.count("train"):
            raise ValueError(f"initialisation.member: {spec.member}, but the pool has {pool.count('train')} networks")
        return pool.theta("train", spec.member), pool.content
    names = {name: tuple(p.shape) for name, p in learner.module.named_parameters()}
    theta, content = pools.weights_of(path, names)
    if spec.content not in (None, content):
        raise ValueError(f"initialisation.path: {path} has other weights than this run was planned with")
    return theta, content


def _path(spec: InitialisationSpec) -> Path:
    if spec.path is None:
        raise ValueError(f"initialisation.kind: {spec.kind} needs initialisation.path")
    return spec.path
