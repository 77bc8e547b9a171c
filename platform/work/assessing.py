"""Kinds of work that assess distilled data: networks trained on it, and on the sets that it is compared with."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from raystill.platform import training
from raystill.platform.evaluation import neighbours
from raystill.platform.evaluation.protocol import (
    LabelOptions,
    NearestOptions,
    RealSetOptions,
    TrainFullOptions,
    TrainNetworkOptions,
    UntrainedOptions,
)
from raystill.platform.initialisation import starts
from raystill.platform.meta import Steps, train
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.synthesis import selection
from raystill.platform.work.problem import Problem
from raystill.platform.work.workbench import Arrays, Inputs, Numbers, Workbench


def trained(bench: Workbench, problem: Problem, steps: Steps, theta0: Tensor) -> Tensor:
    """Train one network, whichever way the engine stacks members.

    Args:
        bench: says how members are stacked.
        problem: the network and its inner objective.
        steps: the minibatches and rates of T inner steps.
        theta0: the start, [P].

    Returns:
        The parameters after T steps, [P].
    """
    if bench.spec.meta.stack == "vmap":
        return train(problem.engine, theta0[None], steps)[0]
    return train(problem.engine, theta0, steps)


def train_network(
    bench: Workbench, address: Address, options: TrainNetworkOptions, inputs: Inputs
) -> tuple[Numbers, Arrays]:
    """Train one network on a small set, and evaluate it.

    Args:
        inputs: `x` [S, M, ...], `y` [S, M] or [S, M, K], `order` [T], and `lr`, `momentum` [T] where they were learned.

    Returns:
        `accuracy`, and what an attack is measured by; no arrays.
    """
    own = options.learner is None
    problem = bench.problem(options.learner or bench.spec.learner)
    tensors = bench.tensors(inputs)
    order = tensors.pop("order")
    x, y = tensors.pop("x")[order], tensors.pop("y")[order]
    if options.hard and y.is_floating_point():
        y = y.argmax(-1)
    if options.augment:
        rng = numpy_rng(address.at(stream=f"{address.stream}/shift"))
        x = bench.data.modality.shift(x.flatten(0, 1), rng).reshape(x.shape)
    hyper = tensors
    if options.rates is not None:
        hyper = {k: x.new_full(order.shape, v) for k, v in vars(options.rates).items() if v}
    # an initialisation for the run's learner fits no other
    theta0 = bench.theta0(problem.learner, address) if own else starts.fresh(problem.learner, address).to(bench.device)
    theta = trained(bench, problem, Steps(x, y, hyper), theta0)
    return problem.evaluate(theta, bench.split(options.split), options.limit), {}


def untrained(bench: Workbench, address: Address, options: UntrainedOptions, inputs: Inputs) -> tuple[Numbers, Arrays]:
    """Evaluate a network at its start, before any step.

    Args:
        address: passed to the initialisation.
        inputs: none.

    Returns:
        `accuracy`, and what an attack is measured by; no arrays.
    """
    problem = bench.problem(bench.spec.learner)
    theta = bench.theta0(problem.learner, address)
    return problem.evaluate(theta, bench.split(options.split)), {}


def train_full(bench: Workbench, address: Address, options: TrainFullOptions, inputs: Inputs) -> tuple[Numbers, Arrays]:
    """Train a network on all real training data for `epochs`, by SGD with momentum 0.9 and a cosine schedule.

    Args:
        address: passed to the initialisation; names the order of the minibatches of 64.
        inputs: none.

    Returns:
        `accuracy` on the options' split; `theta` [P], a teacher for soft labels.
    """
    problem = bench.problem(bench.spec.learner)
    theta = bench.theta0(problem.learner, address)
    rng, size, count = numpy_rng(address.at(stream=f"{address.stream}/full")), 64, len(bench.train)
    total = options.epochs * -(-count // size)
    passes = (rng.permutation(count) for _ in range(options.epochs))
    rows = (order[at : at + size] for order in passes for at in range(0, count, size))
    batches = (
        (bench.train.batch(index), {"lr": options.lr * training.cosine(done, total), "momentum": 0.9})
        for done, index in enumerate(rows)
    )
    mean = training.gradient(lambda theta, x, y: problem.total(theta, x, y) / len(y))
    theta, _ = training.descend(training.still(theta), batches, mean, training.momentum)
    return problem.evaluate(theta, bench.split(options.split)), {"theta": theta.cpu().numpy()}


def real_set(bench: Workbench, address: Address, options: RealSetOptions, inputs: Inputs) -> tuple[Numbers, Arrays]:
    """Draw a baseline's set of as many images as the run's distilled set has.

    Args:
        address: names the draw.
        inputs: none.

    Returns:
        No numbers; normalised images `x` [S, M, ...], class labels `y` [S, M] as the outer objective relabels them,
        and the run's `order` [T].
    """
    part, relabels = bench.spec.synthesizer, bench.problem(bench.spec.learner).relabels
    images = part.images or part.per_class * len(bench.data.classes)
    only = [k for k, _ in relabels] if options.victims else None
    x, y = selection.normalised_steps(options.name, bench.data, part.steps, images, address, only)
    for k, t in relabels:
        y = np.where(y == k, t, y)
    return {}, {"x": x, "y": y, "order": bench.synthesizer.order}


def nearest(bench: Workbench, address: Address, options: NearestOptions, inputs: Inputs) -> tuple[Numbers, Arrays]:
    """Accuracy of the k nearest neighbours among a small set's images.

    Texts are compared by the mean vector of their tokens.

    Args:
        inputs: `x` [S, M, ...], `y` [S, M] or [S, M, K].

    Returns:
        `accuracy`; no arrays.
    """
    y = inputs["y"]
    data = bench.split(options.split)
    x = data.features(torch.from_numpy(np.array(inputs["x"]))).flatten(0, 1).numpy()
    rows = torch.arange(len(data)).split(2048)  # the vectors of all words of a split can take gigabytes
    query, truth = (
        torch.cat(parts).cpu().numpy() for parts in zip(*((data.features(q), t) for q, t in map(data.batch, rows)))
    )
    percent = neighbours.knn_accuracy(x, y.reshape(-1, *y.shape[2:]), query, truth, options.k, options.norm)
    return {"accuracy": percent / 100}, {}


@torch.no_grad()
def label(bench: Workbench, address: Address, options: LabelOptions, inputs: Inputs) -> tuple[Numbers, Arrays]:
    """Label a small set by a teacher.

    Args:
        inputs: the teacher's `theta` [P], images `x` [S, M, ...], and arrays that are passed on, such as `order`.

    Returns:
        No numbers; the inputs without `theta`, with the teacher's softmax as soft labels `y` [S, M, K].
    """
    tensors = bench.tensors(inputs)
    x = tensors["x"]
    rows = bench.problem(bench.spec.learner).learner.apply(tensors["theta"], x.flatten(0, 1)).softmax(1)
    others = {k: np.array(v) for k, v in inputs.items() if k != "theta"}
    return {}, {**others, "y": rows.reshape(*x.shape[:2], -1).cpu().numpy()}
