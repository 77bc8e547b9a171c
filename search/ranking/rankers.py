"""Rankers of architectures: (workbench, architecture, address, options, inputs, clock) -> a score, larger is better.

Two train fresh networks and measure their validation accuracy; the proxies look at an untrained network. A ranker of a
user's own is an entry point of the group `raystill.rankers`. `score` is the kind of work item that applies one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from raystill.platform import learners, registry
from raystill.platform.architectures import Arch, parse
from raystill.platform.architectures.proxies import COUNTS, PROXIES
from raystill.platform.meta import Steps
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.work.assessing import trained
from raystill.platform.work.kinds import Kind
from raystill.platform.work.problem import Problem
from raystill.platform.work.workbench import Arrays, Inputs, Numbers, Workbench
from raystill.search.ranking import training
from raystill.search.ranking.levels import Protocol

WORST = -1e300
"""In place of minus infinity: an item whose numbers are not finite would be computed again."""


@dataclass
class Clock:
    """Wall seconds of a score, against which a search's overhead is measured.

    Attributes:
        training: of the training steps alone.
        evaluation: of validation images, or of a proxy.
    """

    training: float = 0.0
    evaluation: float = 0.0


@dataclass(frozen=True)
class RankerOptions:
    """How a ranker scores.

    Attributes:
        networks: fresh networks averaged.
        limit: validation images.
        init: scheme of initial weights.
        protocol: training on real data (`real`).
        per_class: training images a class (`real`); None takes all.
    """

    networks: int = 1
    limit: int = 2000
    init: str = "xavier"
    protocol: Protocol | None = None
    per_class: int | None = None


Ranker = Callable[[Workbench, Arch, Address, RankerOptions, Mapping[str, Tensor], Clock], float]
"""Scores one architecture; larger is better. All rankers take the same arguments, by position:

    bench: the data, the device and the spec of the run, in this process.
    arch: the architecture to score.
    address: names the random draws, such as those of initial parameters; its stream contains the architecture's hash.
    options: how to score; each ranker reads the fields that concern it.
    inputs: the curriculum's tensors on the device; a ranker without a curriculum ignores them.
    clock: the ranker adds the seconds that it spends to this record.
"""


def _problem(bench: Workbench, arch: Arch, scheme: str) -> Problem:
    return bench.problem_of(learners.wrap(arch.build(bench.data.shape, len(bench.data.classes)), scheme))


def _accuracy(bench: Workbench, problem: Problem, theta: Tensor, options: RankerOptions, clock: Clock) -> float:
    began = time.perf_counter()
    accuracy = problem.evaluate(theta, bench.validation, options.limit)["accuracy"]
    clock.evaluation += time.perf_counter() - began
    return accuracy


def curriculum(
    bench: Workbench, arch: Arch, address: Address, options: RankerOptions, inputs: Mapping[str, Tensor], clock: Clock
) -> float:
    """Mean validation accuracy of `networks` networks, trained on a curriculum's steps at its learned rates.

    The arguments are those of every `Ranker`.

    Args:
        inputs: the curriculum: `x` and `y`, images and labels of its minibatches; `order`, the number of the minibatch
            that each training step takes; `lr` and `momentum`, the rates of the training steps.

    Returns:
        Accuracy from 0 to 1.
    """
    problem = _problem(bench, arch, options.init)
    order = inputs["order"]
    hyper = {k: v for k, v in inputs.items() if k in ("lr", "momentum")}
    total = 0.0
    for n in range(options.networks):
        theta0 = problem.learner.init(address.at(member=n)).to(bench.device)
        began = time.perf_counter()
        theta = trained(bench, problem, Steps(inputs["x"][order], inputs["y"][order], hyper), theta0)
        clock.training += time.perf_counter() - began
        total += _accuracy(bench, problem, theta, options, clock)
    return total / options.networks


def real(
    bench: Workbench, arch: Arch, address: Address, options: RankerOptions, inputs: Mapping[str, Tensor], clock: Clock
) -> float:
    """Mean validation accuracy of `networks` networks, trained on real data by the options' protocol.

    The arguments are those of every `Ranker`.

    Args:
        options: `protocol` must be set; `per_class` limits the training images.

    Returns:
        Accuracy from 0 to 1.
    """
    problem = _problem(bench, arch, options.init)
    data = bench.train
    if options.per_class is not None:
        rows = subset(bench, options.per_class)
        data = type(data)(data.x[rows], data.y[rows], data.mean, data.std)
    assert options.protocol is not None, "`real` trains by a protocol"
    total = 0.0
    for n in range(options.networks):
        began = time.perf_counter()
        (theta,) = training.fit(problem.learner, data, address.at(member=n), options.protocol)
        clock.training += time.perf_counter() - began
        total += _accuracy(bench, problem, theta, options, clock)
    return total / options.networks


def subset(bench: Workbench, per_class: int) -> np.ndarray:
    """Row numbers of `per_class` training images of each class, the same for all architectures."""
    labels = bench.train.y.cpu().numpy()
    rng = numpy_rng(Address(bench.spec.run.seed, stream="rank/subset"))
    rows = [rng.permutation(np.flatnonzero(labels == k))[:per_class] for k in range(len(bench.data.classes))]
    return np.concatenate(rows)


def proxy(
    bench: Workbench, arch: Arch, address: Address, options: RankerOptions, inputs: Mapping[str, Tensor], clock: Clock,
    name: str,
) -> float:  # fmt: skip
    """A zero-cost proxy of the initial network on one minibatch of real data, the same for all architectures.

    The arguments are those of every `Ranker`, and one more.

    Args:
        name: of the proxy, a key of `PROXIES`.

    Returns:
        The proxy's value, `WORST` at the least.
    """
    problem = _problem(bench, arch, options.init)
    network = problem.learner.load(problem.learner.init(address).to(bench.device))
    rng = numpy_rng(Address(bench.spec.run.seed, stream="rank/batch"))
    x, y = bench.train.batch(rng.choice(len(bench.train), min(64, len(bench.train)), replace=False))
    began = time.perf_counter()
    value = PROXIES[name](network, x, y)
    clock.evaluation += time.perf_counter() - began
    return max(value, WORST)


def count(
    bench: Workbench, arch: Arch, address: Address, options: RankerOptions, inputs: Mapping[str, Tensor], clock: Clock,
    name: str,
) -> float:  # fmt: skip
    """The number of parameters, or of FLOPs.

    The arguments are those of every `Ranker`, and one more.

    Args:
        name: of the number, a key of `COUNTS`.
    """
    return COUNTS[name](arch, bench.data.shape, len(bench.data.classes))


RANKERS: dict[str, Ranker] = {
    "curriculum": curriculum,
    "real": real,
    **{name: partial(proxy, name=name) for name in PROXIES},
    **{name: partial(count, name=name) for name in COUNTS},
}


CHEAP = ("parameters", "synflow", "naswot")
"""Proxies whose rank sum is combined with a ranker that trains networks."""


@dataclass(frozen=True)
class ScoreOptions:
    """Texts of architectures, and the name of the ranker that scores them."""

    architectures: tuple[str, ...]
    ranker: str
    settings: RankerOptions


def score(bench: Workbench, address: Address, options: ScoreOptions, inputs: Inputs) -> tuple[Numbers, Arrays]:
    """Work item: the scores of a batch of architectures.

    Args:
        address: its seed is that of the networks; each architecture has a stream of its own.
        inputs: the arrays of a curriculum; a ranker without a curriculum ignores them.

    Returns:
        Numbers: `0`, `1`, ... the scores; `training/0`, ... and `evaluation/0`, ... the seconds of each (`Clock`);
        `cpu/0`, ... its CPU seconds. No arrays.

    Raises:
        ValueError: unknown ranker, or a text that is no architecture.
    """
    tensors = bench.tensors(inputs)
    numbers: Numbers = {}
    ranker = registry.resolve("rankers", options.ranker, RANKERS, bench.plugins)
    for n, text in enumerate(options.architectures):
        arch, clock, cpu = parse(text), Clock(), time.process_time()
        own = Address(address.seed, stream=f"rank/{arch.key}")
        numbers[f"{n}"] = float(ranker(bench, arch, own, options.settings, tensors, clock))
        numbers[f"training/{n}"], numbers[f"evaluation/{n}"] = clock.training, clock.evaluation
        numbers[f"cpu/{n}"] = time.process_time() - cpu
    return numbers, {}


@dataclass(frozen=True)
class TrainRealOptions:
    """The text of an architecture, and how it is trained."""

    architecture: str
    protocol: Protocol


def train_real(bench: Workbench, address: Address, options: TrainRealOptions, inputs: Inputs) -> tuple[Numbers, Arrays]:
    """Work item: train an architecture by the ground truth's protocol.

    Args:
        address: its seed is that of the initial parameters and of the order of the data.
        inputs: not used.

    Returns:
        The numbers of `training.train_network`, and the parameters `theta` [P] where all are finite.
    """
    arch = parse(options.architecture)
    numbers, theta = training.train_network(bench, arch, address.seed, options.protocol)
    return numbers, {"theta": theta.cpu().numpy()} if bool(theta.isfinite().all()) else {}


WORK = {"score": Kind(score, ScoreOptions), "train_real": Kind(train_real, TrainRealOptions)}
"""Kinds of work items that only searches have."""
