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

from raystill.platform import assess, student_grid
from raystill.platform.meta import Steps, Sweep, judge, stacked_judge, unroll
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.synthesis import LEARN
from raystill.platform.workbench import Arrays, Numbers, Problem, Workbench

Kind = Callable[[Workbench, Address, Mapping[str, Any], Mapping[str, np.ndarray]], tuple[Numbers, Arrays]]


def _real(bench: Workbench, address: Address) -> tuple[Tensor, Tensor]:
    """The real minibatch of a member, or of all members (Algorithm 1)."""
    outer = bench.spec.outer
    address = address.at(stream="real", **({"member": 0} if outer.batch == "shared" else {}))
    count = len(bench.train)
    index = numpy_rng(address).choice(count, min(outer.batch_size, count), replace=False, shuffle=False)
    return bench.train.batch(index)


def _window(bench: Workbench, address: Address) -> tuple[int, int]:
    """(start, stop) of the differentiated steps; `random` is RaT-BPTT (2310.09982): judged where the window ends."""
    length, window = bench.spec.unroll, bench.spec.meta.window
    if window is None or window >= length:
        return 0, length
    stop = length
    if bench.spec.meta.window_at == "random":
        stop = int(numpy_rng(address.at(stream="window", member=0)).integers(window, length + 1))
    return stop - window, stop


def _sweep(bench: Workbench, problem: Problem, steps: Steps, addresses: list[Address]) -> list[Sweep]:
    """One sweep per member, by loop or by vmap."""
    meta, total = bench.spec.meta, problem.total
    start, stop = _window(bench, addresses[0])
    if meta.stack == "vmap":
        theta0 = torch.stack([bench.theta0(problem.learner, a) for a in addresses])
        x, y = (torch.stack(part) for part in zip(*(_real(bench, a) for a in addresses)))
        whole = unroll(
            problem.engine,
            theta0,
            steps,
            [(stop, stacked_judge(total, x, y, meta.chunk, meta.precision))],
            start,
            to_theta0=False,
        )
        return [
            Sweep(whole.loss[j], whole.steps.map(itemgetter(j)), whole.theta0[j], whole.final[j])
            for j in range(len(addresses))
        ]
    return [
        unroll(problem.engine, bench.theta0(problem.learner, a), steps,
               [(stop, judge(total, *_real(bench, a), meta.chunk, meta.precision))], start, to_theta0=False)
        for a in addresses
    ]  # fmt: skip


def meta_gradient(
    bench: Workbench, address: Address, options: Mapping[str, Any], inputs: Mapping[str, np.ndarray]
) -> tuple[Numbers, Arrays]:
    """The meta-gradient summed over `options["members"]` members from the address on, in float64, in their order."""
    meta = {k: v.requires_grad_() for k, v in bench.tensors(inputs).items()}
    learned = [k for k in meta if k in bench.synthesizer.groups]
    steps = bench.synthesizer.steps(meta, address.at(stream=LEARN))
    members = [address.at(member=address.member + j) for j in range(options["members"])]
    sweeps = _sweep(bench, bench.problem(bench.spec.learner), steps.map(torch.Tensor.detach), members)

    outputs, cotangents = [], []
    for output, parts in [
        (steps.x, [s.steps.x for s in sweeps]),
        (steps.y, [s.steps.y for s in sweeps]),
        *((steps.hyper[k], [s.steps.hyper[k] for s in sweeps]) for k in steps.hyper),
    ]:
        if output.requires_grad:
            outputs.append(output)
            cotangents.append(torch.stack(parts).double().sum(0).to(output.dtype))
    gradients = torch.autograd.grad(outputs, [meta[k] for k in learned], cotangents)
    loss = sum(s.loss.double().item() for s in sweeps)
    return {"loss": loss}, {k: g.cpu().numpy() for k, g in zip(learned, gradients)}


def validate(
    bench: Workbench, address: Address, options: Mapping[str, Any], inputs: Mapping[str, np.ndarray]
) -> tuple[Numbers, Arrays]:
    """Validation accuracy of one network trained on the current data; the same networks at every outer step."""
    problem = bench.problem(bench.spec.learner)
    steps = bench.synthesizer.steps(bench.tensors(inputs), address)
    network = address.at(step=0, attempt=0, stream="validate")
    theta = assess.trained(bench, problem, steps, bench.theta0(problem.learner, network))
    return {"accuracy": assess.accuracy(problem, theta, bench.validation, bench.spec.validation.images)}, {}


KINDS: dict[str, Kind] = {
    "meta_gradient": meta_gradient,
    "validate": validate,
    "train_network": assess.train_network,
    "train_full": assess.train_full,
    "real_set": assess.real_set,
    "nearest": assess.nearest,
    "label": assess.label,
    "teacher": student_grid.teacher,
    "grade": student_grid.grade,
    "students": student_grid.students,
}
