"""Work items as pure functions: (workbench, address, options, inputs) -> (numbers, arrays).

A kind is one function and one line of `KINDS`. Who calls it, where, how often and after which failure is not its
business: the same address gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raystill.platform.meta import MetaGradient, Steps, outer_loss, stacked_outer_loss, unroll
from raystill.platform.meta.unroll import OuterLoss
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.synthesis import LEARN
from raystill.platform.work import assessing, student_grid
from raystill.platform.work.workbench import Arrays, Numbers, Workbench

Kind = Callable[[Workbench, Address, Mapping[str, Any], Mapping[str, np.ndarray]], tuple[Numbers, Arrays]]


def _real(bench: Workbench, address: Address, size: int, stream: str = "real") -> tuple[Tensor, Tensor]:
    """A real minibatch of a member, or of all members (Algorithm 1)."""
    address = address.at(stream=stream, **({"member": 0} if bench.spec.outer.batch == "shared" else {}))
    count = len(bench.train)
    index = numpy_rng(address).choice(count, min(size, count), replace=False, shuffle=False)
    return bench.train.batch(index)


def _outer_losses(bench: Workbench, start: int, stop: int) -> list[tuple[int, float, int, str]]:
    """(inner steps taken, weight, real images, stream) of each judgement of the steps start..stop."""
    outer = bench.spec.outer
    between = list(range(outer.intermediate_every, stop, outer.intermediate_every)) if outer.intermediate_every else []
    weight = outer.intermediate_weight / max(len(between), 1)
    return [
        *((at, weight, outer.intermediate_size, f"real/{at}") for at in between if at > start),
        (stop, 1.0, outer.batch_size, "real"),
    ]


def _weighed(outer_loss: OuterLoss, weight: float) -> OuterLoss:
    def run(theta: Tensor) -> tuple[Tensor, Tensor]:
        loss, push = outer_loss(theta)
        return weight * loss, weight * push

    return outer_loss if weight == 1.0 else run


def _window(bench: Workbench, address: Address) -> tuple[int, int]:
    """(start, stop) of the differentiated steps; `random` is RaT-BPTT (2310.09982): judged where the window ends."""
    length, window = bench.spec.unroll, bench.spec.meta.window
    if window is None or window >= length:
        return 0, length
    stop = length
    if bench.spec.meta.window_at == "random":
        stop = int(numpy_rng(address.at(stream="window", member=0)).integers(window, length + 1))
    return stop - window, stop


def _meta_gradients(bench: Workbench, steps: Steps, addresses: list[Address]) -> list[MetaGradient]:
    """One meta-gradient per member, by loop or by vmap."""
    meta = bench.spec.meta
    start, stop = _window(bench, addresses[0])
    wanted = _outer_losses(bench, start, stop)
    if meta.stack == "vmap":
        problem = bench.problem(bench.spec.learner)
        theta0 = torch.stack([bench.theta0(problem.learner, a) for a in addresses])
        outer_losses = []
        for at, weight, size, stream in wanted:
            x, y = (torch.stack(part) for part in zip(*(_real(bench, a, size, stream) for a in addresses)))
            outer_losses.append(
                (at, _weighed(stacked_outer_loss(problem.total, x, y, meta.chunk, meta.precision), weight))
            )
        whole = unroll(problem.engine, theta0, steps, outer_losses, start, to_theta0=False)
        return [
            MetaGradient(whole.loss[j], whole.steps.map(itemgetter(j)), whole.theta0[j], whole.final[j])
            for j in range(len(addresses))
        ]
    meta_gradients = []
    for a in addresses:
        problem = bench.problem(bench.learner_of(a))
        outer_losses = [
            (
                at,
                _weighed(outer_loss(problem.total, *_real(bench, a, size, stream), meta.chunk, meta.precision), weight),
            )
            for at, weight, size, stream in wanted
        ]
        theta0 = bench.theta0(problem.learner, a)
        meta_gradients.append(unroll(problem.engine, theta0, steps, outer_losses, start, to_theta0=False))
    return meta_gradients


def meta_gradient(
    bench: Workbench, address: Address, options: Mapping[str, Any], inputs: Mapping[str, np.ndarray]
) -> tuple[Numbers, Arrays]:
    """The meta-gradient summed over `options["members"]` members from the address on, in float64, in their order."""
    meta = {k: v.requires_grad_() for k, v in bench.tensors(inputs).items()}
    learned = [k for k in meta if k in bench.synthesizer.groups]
    steps = bench.synthesizer.steps(meta, address.at(stream=LEARN))
    members = [address.at(member=address.member + j) for j in range(options["members"])]
    meta_gradients = _meta_gradients(bench, steps.map(torch.Tensor.detach), members)

    outputs, cotangents = [], []
    for output, parts in [
        (steps.x, [s.steps.x for s in meta_gradients]),
        (steps.y, [s.steps.y for s in meta_gradients]),
        *((steps.hyper[k], [s.steps.hyper[k] for s in meta_gradients]) for k in steps.hyper),
    ]:
        if output.requires_grad:
            outputs.append(output)
            cotangents.append(torch.stack(parts).double().sum(0).to(output.dtype))
    gradients = torch.autograd.grad(outputs, [meta[k] for k in learned], cotangents)
    loss = sum(s.loss.double().item() for s in meta_gradients)
    return {"loss": loss}, {k: g.cpu().numpy() for k, g in zip(learned, gradients)}


def validate(
    bench: Workbench, address: Address, options: Mapping[str, Any], inputs: Mapping[str, np.ndarray]
) -> tuple[Numbers, Arrays]:
    """Validation accuracy of one network trained on the current data; the same networks at every outer step."""
    problem = bench.problem(bench.spec.learner)
    steps = bench.synthesizer.steps(bench.tensors(inputs), address)
    network = address.at(step=0, attempt=0, stream="validate")
    theta = assessing.trained(bench, problem, steps, bench.theta0(problem.learner, network))
    return problem.evaluate(theta, bench.validation, bench.spec.validation.images), {}


KINDS: dict[str, Kind] = {
    "meta_gradient": meta_gradient,
    "validate": validate,
    "train_network": assessing.train_network,
    "untrained": assessing.untrained,
    "train_full": assessing.train_full,
    "real_set": assessing.real_set,
    "nearest": assessing.nearest,
    "label": assessing.label,
    "teacher": student_grid.teacher,
    "grade": student_grid.grade,
    "students": student_grid.students,
}
