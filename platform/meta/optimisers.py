"""Inner optimisers: pure, elementwise updates of a state whose first entry is the parameters, and their transposes.

The transposes (`vjp`) of the built-in ones are written out: they run once for each inner step, and autograd's graph of
two operations costs several times as much. States are [P] for one member, [J, P] for a stack;
hyper-parameters are scalars, or [J, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from raystill.platform import registry
from raystill.platform.spec import InnerSpec
from raystill.platform.training import Hyper, State, momentum, sgd, still


class Optimiser(NamedTuple):
    """An inner optimiser.

    Attributes:
        init: theta0 -> first state.
        update: (state, gradient, hyper) -> next state.
        vjp: (state, gradient, hyper, cotangent of the next state) -> cotangents of (state, gradient, hyper).
        reads: names of the hyper-parameters that it reads.
    """

    init: Callable[[Tensor], State]
    update: Callable[[State, Tensor, Hyper], State]
    vjp: Callable[[State, Tensor, Hyper, State], tuple[State, Tensor, dict[str, Tensor]]]
    reads: tuple[str, ...] = ("lr",)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)  # pairwise; BLAS's is twenty times less exact in float32


def _vjp_sgd(state: State, gradient: Tensor, hyper: Hyper, cotangent: State) -> tuple[State, Tensor, dict[str, Tensor]]:
    (c,) = cotangent
    return cotangent, -hyper["lr"] * c, {"lr": -_dot(gradient, c)}


def _vjp_momentum(
    state: State, gradient: Tensor, hyper: Hyper, cotangent: State
) -> tuple[State, Tensor, dict[str, Tensor]]:
    (_, velocity), (c, new) = state, cotangent
    lr, mu = hyper["lr"], hyper["momentum"]
    new = new - lr * c
    rates = {"lr": -_dot(mu * velocity + gradient, c), "momentum": _dot(velocity, new)}
    return (c, mu * new), new, rates


SGD = Optimiser(lambda theta: (theta,), sgd, _vjp_sgd)
MOMENTUM = Optimiser(still, momentum, _vjp_momentum, reads=("lr", "momentum"))
INNER_OPTIMISERS = {"sgd": SGD, "momentum": MOMENTUM}


def differentiated(
    init: Callable[[Tensor], State],
    update: Callable[[State, Tensor, Hyper], State],
    reads: tuple[str, ...] = ("lr",),
) -> Optimiser:
    """An optimiser whose vjp autograd computes, for a user's own one; each step costs more than with a written-out vjp.

    Args:
        init, update, reads: as in `Optimiser`; `update` must be elementwise and work under `torch.func.vjp`.
    """

    def vjp(state: State, gradient: Tensor, hyper: Hyper, cotangent: State) -> tuple[State, Tensor, dict[str, Tensor]]:
        cotangents: tuple[State, Tensor, dict[str, Tensor]] = torch.func.vjp(update, state, gradient, dict(hyper))[1](
            cotangent
        )
        return cotangents

    return Optimiser(init, update, vjp, reads)


def choose(hyper: Hyper) -> Optimiser:
    """The optimiser for some hyper-parameters, where the spec says `auto`: momentum if they have one, else SGD."""
    return MOMENTUM if "momentum" in hyper else SGD


def resolve(spec: InnerSpec, plugins: registry.Plugins | None = None) -> Optimiser | None:
    """The optimiser that `inner.optimiser` names; None for `auto`, which leaves it to the hyper-parameters.

    A plug-in is an `Optimiser`, or a function from settings to one.

    Raises:
        ValueError: an unknown name or setting, a part of another form, or one that needs a momentum and has none.
    """
    field = "inner.optimiser"
    if spec.optimiser == "auto":
        return None
    name, settings = registry.parse(spec.optimiser, field)
    part = registry.resolve("inner_optimisers", name, INNER_OPTIMISERS, plugins, field)
    if not isinstance(part, Optimiser) or settings:
        part = registry.bound("inner_optimisers", spec.optimiser, INNER_OPTIMISERS, plugins, field)()
    if not isinstance(part, Optimiser):
        raise ValueError(f"{field}: {name!r} gives {type(part).__name__}, and no raystill.platform.meta.Optimiser")
    if "momentum" in part.reads and not spec.momentum:
        raise ValueError(f"{field}: {name} needs a momentum; set inner.momentum above 0")
    return part
