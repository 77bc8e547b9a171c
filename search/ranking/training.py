"""Training on real data by the ground truth's protocol: of its networks, of retrained candidates, of short scores."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raystill.platform import learners, training
from raystill.platform.architectures import Arch
from raystill.platform.data.resident import Resident
from raystill.platform.learners import Learner
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.work.workbench import Workbench
from raystill.search.ranking.levels import STREAM, Protocol


def batches(count: int, size: int, steps: int, address: Address) -> Iterator[np.ndarray]:
    """Row numbers [size] of `steps` minibatches out of shuffled passes over `count` examples.

    Args:
        count: of the examples in the data.
        size: examples of a minibatch.
        steps: how many minibatches to draw.
        address: names the order of the examples.
    """
    rng = numpy_rng(address)
    order = np.empty(0, np.int64)
    for _ in range(steps):
        while len(order) < size:
            order = np.concatenate([order, rng.permutation(count)])
        yield order[:size]
        order = order[size:]


@dataclass(frozen=True)
class State:
    """A network in training: parameters theta[P] and velocity[P] after `done` minibatches."""

    theta: Tensor
    velocity: Tensor
    done: int = 0


def init(learner: Learner, address: Address, device: torch.device) -> State:
    """The state before the first minibatch; the address names the initial parameters and the order of the data."""
    theta = learner.init(address).to(device)
    return State(theta, torch.zeros_like(theta))


def descend(learner: Learner, data: Resident, address: Address, protocol: Protocol, state: State, until: int) -> State:
    """The state after `until` minibatches in all: the same bits however often training was stopped on the way.

    Args:
        address: names the order of the data; the same as that of `init`.
        state: where training goes on from; `state.done` minibatches of the order are passed over.
        until: minibatches counted from the start of training, at most `protocol.steps`.
    """
    draws = enumerate(batches(len(data), protocol.batch, until, address.at(stream=f"{address.stream}/batches")))
    left = (
        (data.batch(rows), {"lr": protocol.lr * training.cosine(done, protocol.steps), "momentum": protocol.momentum})
        for done, rows in draws if done >= state.done
    )  # fmt: skip
    mean = training.gradient(lambda theta, x, y: F.cross_entropy(learner.apply(theta, x), y))
    theta, velocity = training.descend((state.theta, state.velocity), left, mean, training.momentum)
    return State(theta, velocity, until)


def fit(
    learner: Learner, data: Resident, address: Address, protocol: Protocol, stops: Sequence[int] = ()
) -> Iterator[Tensor]:
    """Train from initial parameters to the end of the protocol.

    Args:
        address: names the initial parameters and the order of the data.
        stops: numbers of minibatches, rising, after which the parameters are asked for too.

    Returns:
        The parameters theta[P] after each of `stops`, then at the end.
    """
    state = init(learner, address, data.x.device)
    for stop in (*stops, protocol.steps):
        state = descend(learner, data, address, protocol, state, stop)
        yield state.theta


def address_of(arch: Arch, seed: int) -> Address:
    """The address of a network of the ground truth, or of a retrained candidate."""
    return Address(seed, stream=f"{STREAM}/{arch.key}")


def train_network(bench: Workbench, arch: Arch, seed: int, protocol: Protocol) -> tuple[dict[str, float], Tensor]:
    """Train one network on the training split.

    Args:
        seed: of the initial parameters and of the order of the data.
        protocol: minibatches, their size, and the learning rate.

    Returns:
        Its accuracies (0 to 1) on the validation and test splits, and on the validation split after three quarters of
        the steps; parameters, FLOPs, CPU seconds. And theta[P].
    """
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
