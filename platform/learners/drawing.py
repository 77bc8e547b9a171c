"""Drawn learners: each member of meta-training may have its own width or architecture.

The draw is a function of the address alone, so any process computes the same member.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from raystill.platform import registry, seeds, training
from raystill.platform.data.resident import Resident
from raystill.platform.learners import Learner, architectures
from raystill.platform.learners.networks import Shape
from raystill.platform.spec import LearnerSpec

Draw = Callable[[seeds.Address], LearnerSpec]
"""Address of a member -> its learner."""

TRIES = 100
RATE, MOMENTUM, BATCH = 0.05, 0.9, 64


def drawing(
    spec: LearnerSpec, shape: Shape, learns: Callable[[LearnerSpec], bool], plugins: registry.Plugins | None = None
) -> Draw:
    """The draw of a spec (`learner.draw`).

    Args:
        shape: of the images, (C, H, W).
        learns: whether a learner can be trained at all; called once for each architecture.

    Raises:
        ValueError: no such space, or it has networks that do not fit the images.
    """
    if spec.draw == "none":
        return lambda address: spec
    if spec.draw == "widths":
        return lambda address: _width(spec, address)
    space = architectures().space(spec.draw, plugins, "learner.draw", ("none", "widths"))
    try:
        space.check(shape)
    except ValueError as error:
        raise ValueError(f"learner.draw: {error}") from error
    trainable: dict[str, bool] = {}

    def draw(address: seeds.Address) -> LearnerSpec:
        for n in range(TRIES):
            arch = space.sample(address.at(stream=f"{address.stream}/architecture/{n}"))
            if arch.key in spec.exclude:
                continue
            learner = spec.model_copy(update={"name": arch.text, "width": None, "depth": None, "draw": "none"})
            if arch.key not in trainable:
                trainable[arch.key] = not spec.trial or learns(learner)
            if trainable[arch.key]:
                return learner
        raise ValueError(
            f"learner.draw: {TRIES} draws from {spec.draw} gave no architecture that learns and is not excluded; "
            "take a wider space, fewer of learner.exclude, or set learner.trial to 0"
        )

    return draw


def _width(spec: LearnerSpec, address: seeds.Address) -> LearnerSpec:
    rng = seeds.numpy_rng(address.at(stream=f"{address.stream}/width"))
    width = int(rng.integers(spec.widths[0], spec.widths[1] + 1))
    return spec.model_copy(update={"width": width, "draw": "none"})


def begins_to_learn(
    learner: Learner, total: Callable[[Tensor, Tensor, Tensor], Tensor], data: Resident, steps: int, classes: int,
    begun: float,
) -> bool:  # fmt: skip
    """Whether a learner counts as trainable after a trial on real data, at one of three learning rates.

    It does when its mean loss over the last quarter of `steps` is below `begun` times ln K, the loss of guessing.
    Initial weights and minibatches have a fixed address.

    Args:
        total: (theta[P], x[B, C, H, W], y[B]) -> summed loss.
        data: real training data.
        steps: of SGD with momentum.
        classes: K.
        begun: share of ln K.
    """
    address = seeds.Address(0, stream="trial")
    for factor in (1.0, 0.2, 5.0):
        rng = seeds.numpy_rng(address)
        losses: list[float] = []

        def mean(theta: Tensor, x: Tensor, y: Tensor, losses: list[float] = losses) -> Tensor:
            loss = total(theta, x, y) / len(y)
            losses.append(float(loss.detach()))
            return loss

        rows = (rng.choice(len(data), min(BATCH, len(data)), replace=False) for _ in range(steps))
        hyper = {"lr": factor * RATE, "momentum": MOMENTUM}
        start = training.still(learner.init(address).to(data.x.device))
        training.descend(
            start, ((data.batch(index), hyper) for index in rows), training.gradient(mean), training.momentum
        )
        last = losses[-max(1, steps // 4) :]
        if sum(last) / len(last) < begun * math.log(classes):  # a nan is not below
            return True
    return False
