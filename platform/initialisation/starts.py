"""Where learners start: theta0 ~ p(theta0) as a function of the address, for each kind of initialisation.

Training, validation and assessment draw from different streams, and from different parts of a pool: what is reported is
measured on networks that neither taught the data nor chose it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from raystill.platform.data import DataSet
from raystill.platform.initialisation import pools
from raystill.platform.learners import Learner
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import DistillSpec, InitialisationSpec

Start = Callable[[Learner, Address], Tensor]
"""(the run's learner, address) -> theta0[P] on the CPU, float32."""

KEPT = 256
"""Networks of a pool that an evaluator keeps in memory."""

PART_OF = {"validate": "validation", "assess": "test"}
"""First word of an address's stream -> the part of a pool that it draws from; else `train`."""


def _own(address: Address) -> Address:
    return address.at(stream=f"{address.stream}/theta0")


def fresh(learner: Learner, address: Address) -> Tensor:
    """The address's own network."""
    return learner.init(_own(address))


def _random(spec: DistillSpec) -> Start:
    return fresh


def _fixed(spec: DistillSpec) -> Start:
    return lambda learner, address: learner.init(Address(spec.run.seed, stream="theta0"))


def _pool(spec: DistillSpec) -> Start:
    pool = _opened(spec.initialisation)
    read = lru_cache(KEPT)(pool.theta)

    def start(learner: Learner, address: Address) -> Tensor:
        part = PART_OF.get(address.stream.partition("/")[0], "train")
        if part == "train":
            member = int(numpy_rng(_own(address)).integers(pool.count(part)))
        else:  # in turn: each held-out network once, as long as there are enough
            member = address.member % pool.count(part)
        return torch.from_numpy(np.array(read(part, member)))

    return start


def _pretrained(spec: DistillSpec) -> Start:
    kept: list[np.ndarray] = []

    def start(learner: Learner, address: Address) -> Tensor:
        if not kept:
            kept.append(_one(spec.initialisation, learner)[0])
        return torch.from_numpy(np.array(kept[0]))

    return start


STARTS: dict[str, Callable[[DistillSpec], Start]] = {
    "random": _random,
    "fixed": _fixed,
    "pool": _pool,
    "pretrained": _pretrained,
}


def build(spec: DistillSpec) -> Start:
    """The start of a spec.

    Raises:
        ValueError: its pool is not here, or another than the run was planned with.
    """
    return STARTS[spec.initialisation.kind](spec)


def resolved(spec: DistillSpec, learner: Learner, data: DataSet) -> DistillSpec:
    """The spec with its pool found, checked against learner and data, and known by its content.

    Raises:
        ValueError: one line: no pool, one for other classes, architecture or shape, or too few held-out networks.
    """
    told = spec.initialisation
    if told.path is None:
        return spec
    told = told.model_copy(update={"path": pools.absolute(told.path)})
    assert told.path is not None
    if told.kind == "pretrained" and not told.path.is_dir():
        content = _one(told, learner)[1]
    else:
        pool = _opened(told)
        pool.need(spec.learner, learner.size, data)
        content = pool.content
        if told.kind == "pretrained":
            _one(told, learner)
        else:
            _enough(spec, pool)
    return spec.model_copy(update={"initialisation": told.model_copy(update={"content": content})})


def _enough(spec: DistillSpec, pool: pools.Pool) -> None:
    asked = {"validation": ("validation.networks", spec.validation.networks),
             "test": ("assess.networks", spec.assess.networks)}  # fmt: skip
    for part, (field, count) in asked.items():
        if count > pool.count(part):
            raise ValueError(
                f"{field}: {count}, but the pool {pool.path} holds out {pool.count(part)} networks for {part}; ask for "
                "fewer, or pretrain with a larger held_out"
            )


def _opened(told: InitialisationSpec) -> pools.Pool:
    assert told.path is not None
    pool = pools.open_pool(told.path)
    if told.content not in (None, pool.content):
        raise ValueError(f"initialisation.path: {told.path} holds another pool than this run was planned with")
    return pool


def _one(told: InitialisationSpec, learner: Learner) -> tuple[np.ndarray, str]:
    """The one pre-trained network, and the sha256 of what it was read from."""
    assert told.path is not None
    if told.path.is_dir() or not told.path.exists():
        pool = _opened(told)
        if told.member >= pool.count("train"):
            raise ValueError(f"initialisation.member: {told.member}, but the pool has {pool.count('train')} networks")
        return pool.theta("train", told.member), pool.content
    names = {name: tuple(p.shape) for name, p in learner.module.named_parameters()}
    theta, content = pools.weights_of(told.path, names)
    if told.content not in (None, content):
        raise ValueError(f"initialisation.path: {told.path} holds other weights than this run was planned with")
    return theta, content
