"""Ground truth: architectures trained on real data by one fixed protocol, kept as rows that score any ranker.

A level names a space, data, how many architectures and seeds, and the protocol. Its architectures are drawn once, by
addresses of their own; `keys` are what meta-training leaves out. Rows lie in one Parquet file per level.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from raystill.platform import learners, registry
from raystill.platform.architectures.spaces import Arch, parse, space
from raystill.platform.data import load
from raystill.platform.data.resident import Resident
from raystill.platform.files import tables
from raystill.platform.learners import Learner
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import DataSpec, DistillSpec
from raystill.platform.work.problem import resolve_auto
from raystill.platform.work.workbench import Workbench

STREAM = WHAT = "ground truth"
SCHEMA = pa.schema([
    ("space", pa.string()), ("architecture", pa.string()), ("data", pa.string()), ("pixels", pa.int64()),
    ("seed", pa.int64()), ("validation", pa.float64()), ("test", pa.float64()), ("validation_before", pa.float64()),
    ("parameters", pa.int64()), ("flops", pa.int64()), ("cpu_seconds", pa.float64()), ("protocol", pa.string()),
    ("fingerprint", pa.string()),
])  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """SGD with momentum and a cosine to zero, on minibatches of shuffled passes over the training split."""

    steps: int
    batch: int = 64
    lr: float = 0.05
    momentum: float = 0.9

    def __str__(self) -> str:
        return f"sgd steps={self.steps} batch={self.batch} lr={self.lr:g} momentum={self.momentum:g} cosine xavier"


@dataclass(frozen=True)
class Level:
    """One table of ground truth.

    Attributes:
        many: architectures.
        seeds: networks of each.
    """

    space: str
    data: DataSpec
    many: int
    seeds: int
    protocol: Protocol

    def architectures(self) -> list[Arch]:
        """The level's architectures, distinct, the same at every call."""
        return sample(self.space, self.many, STREAM)

    def keys(self) -> frozenset[str]:
        """Their hashes, which meta-training must not see."""
        return frozenset(arch.key for arch in self.architectures())


LEVELS: dict[str, Level] = {
    "mnist": Level("macro", DataSpec(source="mnist", size=14), 96, 3, Protocol(768)),
    "cifar": Level("macro", DataSpec(source="cifar10", size=16), 96, 3, Protocol(1536)),
    "cells": Level("cell", DataSpec(source="cifar10", size=16), 64, 2, Protocol(768)),
    "digits": Level("macro", DataSpec(), 12, 2, Protocol(64)),
}
"""`digits` checks the plumbing in seconds and says nothing of quality."""


def level(name: str) -> Level:
    """A level by its name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in LEVELS:
        raise ValueError(f"search.level: unknown {name!r}; {registry.nearest(name, LEVELS)}")
    return LEVELS[name]


def sample(name: str, many: int, stream: str, without: frozenset[str] = frozenset()) -> list[Arch]:
    """`many` distinct architectures of a space, whose hashes are not among `without`; the stream decides which.

    Raises:
        ValueError: the space has too few.
    """
    found: dict[str, Arch] = {}
    for step in range(200 * many):
        arch = space(name).sample(Address(0, step=step, stream=stream))
        if arch.key not in without:
            found.setdefault(arch.text, arch)
        if len(found) == many:
            return list(found.values())
    raise ValueError(f"search.space: {name} gave {len(found)} of {many} distinct architectures; ask for fewer")


def batches(count: int, size: int, steps: int, address: Address) -> Iterator[np.ndarray]:
    """Row numbers of `steps` minibatches out of shuffled passes over `count` examples."""
    rng = numpy_rng(address)
    order = np.empty(0, np.int64)
    for _ in range(steps):
        while len(order) < size:
            order = np.concatenate([order, rng.permutation(count)])
        yield order[:size]
        order = order[size:]


@dataclass(frozen=True)
class State:
    """A network on its way: theta[P] and velocity[P] after `done` minibatches."""

    theta: Tensor
    velocity: Tensor
    done: int = 0


def begin(learner: Learner, address: Address, device: torch.device) -> State:
    """Before the first minibatch; the address names the initial parameters and the order of the data."""
    theta = learner.init(address).to(device)
    return State(theta, torch.zeros_like(theta))


def descend(learner: Learner, data: Resident, address: Address, protocol: Protocol, state: State, until: int) -> State:
    """The state after `until` minibatches in all: the same bits however often it was stopped on the way."""
    theta, velocity = state.theta, state.velocity
    draws = batches(len(data), protocol.batch, until, address.at(stream=f"{address.stream}/batches"))
    for done, rows in enumerate(draws):
        if done < state.done:
            continue
        x, y = data.batch(rows)
        leaf = theta.detach().requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(learner.apply(leaf, x), y), leaf)
        velocity = protocol.momentum * velocity + g
        theta = theta - protocol.lr * 0.5 * (1 + math.cos(math.pi * done / protocol.steps)) * velocity
    return State(theta, velocity, until)


def fit(
    learner: Learner, data: Resident, address: Address, protocol: Protocol, stops: Sequence[int] = ()
) -> Iterator[Tensor]:
    """The parameters theta[P] after each of some numbers of steps in rising order, then at the end."""
    state = begin(learner, address, data.x.device)
    for stop in (*stops, protocol.steps):
        state = descend(learner, data, address, protocol, state, stop)
        yield state.theta


def address_of(arch: Arch, seed: int) -> Address:
    """Where a network of the ground truth, or a finalist, begins."""
    return Address(seed, stream=f"{STREAM}/{arch.key}")


def trained(bench: Workbench, arch: Arch, seed: int, protocol: Protocol) -> tuple[dict[str, float], Tensor]:
    """One network's accuracies (shares) on the validation and test splits, its size, CPU seconds; and theta[P]."""
    cpu = time.process_time()
    shape, classes = bench.data.shape, len(bench.data.classes)
    problem = bench.problem_of(learners.wrap(arch.build(shape, classes)))
    before, theta = fit(problem.learner, bench.train, address_of(arch, seed), protocol, (protocol.steps * 3 // 4,))
    return {
        "validation": problem.evaluate(theta, bench.validation)["accuracy"],
        "test": problem.evaluate(theta, bench.test)["accuracy"],
        "validation_before": problem.evaluate(before, bench.validation, 2000)["accuracy"],
        "parameters": problem.learner.size, "flops": arch.flops(shape, classes),
        "cpu_seconds": time.process_time() - cpu,
    }, theta  # fmt: skip


def make(
    name: str, path: Path, command: str, tell: Callable[[str], None], seeds: Sequence[int] | None = None,
    changed: Level | None = None,
) -> int:  # fmt: skip
    """Train what a level's file lacks, and add a row for each network as it is done; returns how many.

    Args:
        seeds: of these alone; None takes all of the level's.
        changed: in place of the level of that name, to try another protocol, space or number.

    Raises:
        ValueError: unknown level, or the file was made by another protocol or from other data.
    """
    at = changed or level(name)
    data = load(at.data)
    space(at.space).check(data.shape)
    rows = tables.read(path, SCHEMA, WHAT) if path.exists() else []
    same = {"protocol": str(at.protocol), "fingerprint": data.fingerprint}
    for key, value in same.items():
        if other := next((row[key] for row in rows if row[key] != value), None):
            raise ValueError(f"{path}: has rows of another {key} ({other}, not {value}); move it away")
    done = {(row["architecture"], row["seed"]) for row in rows}
    bench, made = Workbench(resolve_auto(DistillSpec(data=at.data), "cpu"), None, data), 0
    for seed in range(at.seeds) if seeds is None else seeds:
        for arch in at.architectures():
            if (arch.text, seed) in done:
                continue
            found, _ = trained(bench, arch, seed, at.protocol)
            place = {"space": at.space, "architecture": arch.text, "data": at.data.source, "pixels": data.shape[-1]}
            rows.append({**place, "seed": seed, **found, **same})
            write(path, rows, command)
            made += 1
            tell(f"{name} {made} {arch.text} seed {seed} test {found['test']:.4f} cpu {found['cpu_seconds']:.1f}")
    return made


def write(path: Path, rows: list[dict[str, Any]], command: str) -> None:
    """The table as Parquet, whole or not at all, with the command that made it."""
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    about = {b"raystill": json.dumps({"command": command, "versions": versions}).encode()}
    tables.write(path, rows, SCHEMA.with_metadata(about))


@dataclass(frozen=True)
class Truth:
    """A level's rows as arrays: `test`, `validation` [N, S] in percent, NaN where a network is missing; `archs` [N]."""

    archs: tuple[Arch, ...]
    test: np.ndarray
    validation: np.ndarray
    seconds: np.ndarray
    fingerprint: str

    @property
    def mean(self) -> np.ndarray:
        """Mean test accuracy over the seeds [N]."""
        return np.asarray(np.nanmean(self.test, 1))


ENOUGH = 24
"""Architectures of a seed that is still under way from which on it counts: they tell the noise of all within a few
hundredths, as they come in the order in which they were drawn."""


def truth(path: Path) -> Truth:
    """The rows of a file, by architecture and seed; a seed that is under way is taken once it has `ENOUGH`.

    Raises:
        ValueError: not such a file, or no seed is complete.
    """
    rows = tables.read(path, SCHEMA, WHAT)
    texts = list(dict.fromkeys(row["architecture"] for row in rows))
    by = {(row["architecture"], row["seed"]): row for row in rows}
    many = {s: sum((t, s) in by for t in texts) for s in sorted({row["seed"] for row in rows})}
    seeds = [s for s, n in many.items() if n >= min(ENOUGH, len(texts))]
    if len(texts) not in many.values():
        raise ValueError(f"{path}: no seed has all of its {len(texts)} architectures yet; let it finish")

    def column(name: str, factor: float) -> np.ndarray:
        missing = {name: float("nan")}
        return factor * np.array([[by.get((t, s), missing)[name] for s in seeds] for t in texts])

    return Truth(
        tuple(map(parse, texts)), column("test", 100), column("validation", 100), column("cpu_seconds", 1),
        rows[0]["fingerprint"],
    )  # fmt: skip
