"""Learners: networks as pure functions of a flat parameter vector, and their seeded initialisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from torch import Tensor, nn

from raystill.platform import registry, seeds
from raystill.platform.learners.initialise import initialise
from raystill.platform.learners.networks import NETWORKS as IMAGES
from raystill.platform.learners.networks import Shape
from raystill.platform.learners.sequences import SEQUENCES
from raystill.platform.learners.weight_norm import weight_normed
from raystill.platform.spec import LearnerSpec

__all__ = ["NETWORKS", "Learner", "Network", "architectures", "build", "resolve", "weight_normed", "wrap"]

NETWORKS = {**IMAGES, **SEQUENCES}

Network = Callable[[Shape, int, int | None, int | None], nn.Module]  # (shape, classes, width, depth) -> module


@dataclass(frozen=True)
class Learner:
    """A network as pure functions.

    Attributes:
        apply: (theta[P], x[B, C, H, W]) -> logits[B, K]; differentiable twice, works under vmap.
        init: address -> theta0[P] on the CPU, float32.
        size: P, the number of parameters.
        module: the template.
        load: theta[P] -> the module with these parameters.
    """

    apply: Callable[[Tensor, Tensor], Tensor]
    init: Callable[[seeds.Address], Tensor]
    size: int
    module: nn.Module
    load: Callable[[Tensor], nn.Module]


def wrap(module: nn.Module, scheme: str = "xavier", gain: float = 1.0) -> Learner:
    """A learner from a torch module.

    Args:
        scheme, gain: of the initial weights; see `initialise`.

    Raises:
        ValueError: the module keeps running statistics, draws random numbers, or has no parameters.
    """
    for name, part in module.named_modules():
        if getattr(part, "track_running_stats", False) and getattr(part, "running_mean", None) is not None:
            raise ValueError(
                f"learner: {name or type(module).__name__} ({type(part).__name__}) keeps running statistics, which a "
                "network under vmap or in an unroll can not; take GroupNorm, or track_running_stats=False"
            )
        if isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0:
            raise ValueError(
                f"learner: {name or type(module).__name__} ({type(part).__name__}) draws its own random numbers, so "
                "the same address would not give the same bits; remove it, or set p to 0"
            )
    if next(module.parameters(), None) is None:
        raise ValueError(f"learner: {type(module).__name__} has no parameters to learn")
    names, own = zip(*module.named_parameters())
    shapes = [p.shape for p in own]
    sizes = [shape.numel() for shape in shapes]
    number = {id(p): i for i, p in enumerate(own)}
    places = [
        (m._parameters, k, number[id(p)]) for m in module.modules() for k, p in m._parameters.items() if p is not None
    ]

    def apply(theta: Tensor, x: Tensor) -> Tensor:
        # functional_call does the same, but takes 2 % of an unroll; the backward of one split is one concatenation
        parts = [t.view(s) for t, s in zip(theta.split(sizes), shapes)]
        for parameters, key, i in places:
            parameters[key] = parts[i]
        try:
            logits: Tensor = module(x)
        finally:
            for parameters, key, i in places:
                parameters[key] = own[i]
        return logits

    def init(address: seeds.Address) -> Tensor:
        return initialise(module, scheme, gain, seeds.torch_rng(address))

    def load(theta: Tensor) -> nn.Module:
        parts = {n: t.view(s).clone() for n, t, s in zip(names, theta.detach().split(sizes), shapes)}
        module.load_state_dict(parts, strict=False)
        return module

    return Learner(apply, init, sum(sizes), module, load)


def resolve(name: str, plugins: registry.Plugins | None = None, field: str = "learner.name") -> Network:
    """The network of a name, or of a text `space:architecture`.

    Raises:
        ValueError: unknown name or space, or the architecture does not parse.
    """
    if ":" not in name:
        return registry.resolve("learners", name, NETWORKS, plugins, field)
    network: Network = architectures().network(name, plugins, field)
    return network


def architectures() -> ModuleType:
    """The package of architectures, imported when it is needed, since it imports this one."""
    return import_module("raystill.platform.architectures")


def build(spec: LearnerSpec, shape: Shape, classes: int, plugins: registry.Plugins | None = None) -> Learner:
    """The learner of a spec.

    Args:
        spec: section `learner`.
        shape: of an image, (C, H, W).
        classes: K, the number of logits.
        plugins: parts that the caller passes.

    Raises:
        ValueError: unknown name, images too small for the network, or a network with running statistics.
    """
    make = resolve(spec.name, plugins)
    with seeds.fixed_global():
        module = make(shape, classes, spec.width, spec.depth)
        if spec.weight_norm:
            weight_normed(module)
    return wrap(module, spec.init, spec.gain)
