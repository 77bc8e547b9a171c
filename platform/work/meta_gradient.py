"""The two kinds of work of a distillation: meta-gradients of chunks of members, and scores of snapshots."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from raystill.platform.seeds import Address
from raystill.platform.synthesis import LEARN
from raystill.platform.work.assessing import trained
from raystill.platform.work.workbench import Arrays, Inputs, Numbers, Workbench


@dataclass(frozen=True)
class MetaGradientOptions:
    """Members of the chunk: those from the item's address on."""

    members: int


def meta_gradient(
    bench: Workbench, address: Address, options: MetaGradientOptions, inputs: Inputs
) -> tuple[Numbers, Arrays]:
    """The meta-gradient summed over a chunk's members, in float64, in their order.

    Args:
        inputs: the meta-parameters by name.

    Returns:
        `loss`, the members' outer losses summed; the gradient of each learned meta-parameter, in its shape.
    """
    meta = {k: v.requires_grad_() for k, v in bench.tensors(inputs).items()}
    learned = [k for k in meta if k in bench.synthesizer.groups]
    steps = bench.synthesizer.steps(meta, address.at(stream=LEARN))
    members = [address.at(member=address.member + j) for j in range(options.members)]
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


@dataclass(frozen=True)
class ValidateOptions:
    """None: the spec says how many validation images are used."""


def validate(bench: Workbench, address: Address, options: ValidateOptions, inputs: Inputs) -> tuple[Numbers, Arrays]:
    """Train one network on the current data, and evaluate it on the validation split.

    Every outer step is scored by the same networks: their start depends on seed and member alone.

    Args:
        inputs: the meta-parameters by name.

    Returns:
        `accuracy`, and what an attack is measured by; no arrays.
    """
    problem = bench.problem(bench.spec.learner)
    steps = bench.synthesizer.steps(bench.tensors(inputs), address)
    network = address.at(step=0, attempt=0, stream="validate")
    theta = trained(bench, problem, steps, bench.theta0(problem.learner, network))
    return problem.evaluate(theta, bench.validation, bench.spec.validation.images), {}
