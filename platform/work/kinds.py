"""Work items as pure functions: (workbench, address, options, inputs) -> (numbers, arrays).

A kind is one function and one line of `KINDS`. Who calls it, where, how often and after which failure is not its
business: the same address gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from raystill.platform.seeds import Address
from raystill.platform.synthesis import LEARN
from raystill.platform.work import assessing, student_grid
from raystill.platform.work.workbench import Arrays, Numbers, Workbench

Kind = Callable[[Workbench, Address, Mapping[str, Any], Mapping[str, np.ndarray]], tuple[Numbers, Arrays]]


def meta_gradient(
    bench: Workbench, address: Address, options: Mapping[str, Any], inputs: Mapping[str, np.ndarray]
) -> tuple[Numbers, Arrays]:
    """The meta-gradient summed over `options["members"]` members from the address on, in float64, in their order."""
    meta = {k: v.requires_grad_() for k, v in bench.tensors(inputs).items()}
    learned = [k for k in meta if k in bench.synthesizer.groups]
    steps = bench.synthesizer.steps(meta, address.at(stream=LEARN))
    members = [address.at(member=address.member + j) for j in range(options["members"])]
    meta_gradients = bench.estimator(bench, steps.map(torch.Tensor.detach), members)

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
