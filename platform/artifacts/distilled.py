"""Distilled data in memory, and how a network learns from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

from raystill.platform import learners, registry, seeds
from raystill.platform.data.modality import IMAGE, Modality, Payload
from raystill.platform.meta import optimisers
from raystill.platform.objectives import Out, Step, of_labels
from raystill.platform.spec import InnerSpec, LearnerSpec
from raystill.platform.training import Hyper, State, descend


@dataclass(frozen=True, eq=False)
class Distilled:
    """Distilled data: images, labels, and the rates and order of their steps.

    Attributes:
        images: float32 [S, M, C, H, W], (pixel / 255 - mean) / std; S steps of M images.
        labels: int64 [S, M] ids, or float32 [S, M, K] rows, which need not sum to one.
        rates: float32 [T] each: `lr`, and `momentum` where there is one; T inner steps.
        order: int64 [T], the step (0..S-1) whose images each inner step uses.
        theta0: float32 [P], the weights of a fixed start, or None.
        manifest: learner, initialisation, seeds, spec, normalisation (mean, std), classes, fingerprint, versions; and
            a section under the name of the modality.
        generator: float32 arrays by name from which `longer` makes further steps, or None.
        payload: data that examples need beside their arrays, such as the vocabulary of texts.
        modality: kind of the examples.

    Raises:
        ValueError: shapes or types do not fit together, or a number is not finite.
    """

    images: np.ndarray
    labels: np.ndarray
    rates: dict[str, np.ndarray]
    order: np.ndarray
    theta0: np.ndarray | None
    manifest: dict[str, Any]
    generator: dict[str, np.ndarray] | None = None
    payload: Payload | None = None
    modality: Modality = IMAGE

    def __post_init__(self) -> None:
        _check(self)

    def __repr__(self) -> str:
        from raystill.platform.artifacts import notebook  # it imports PIL, which training does not need

        return notebook.summary(self)

    def _repr_html_(self) -> str:
        from raystill.platform.artifacts import notebook

        return notebook.html(self)

    def train(self, model: nn.Module | None = None, plugins: registry.Plugins | None = None) -> nn.Module:
        """Train a model in place on the distilled steps, in their order and at their learned rates.

        Loss and update are the inner objective and the inner optimiser that the data was distilled for: with a
        momentum, v' = mu v + g, theta' = theta - lr v'.

        Args:
            model: starts from its own weights, on its own device. None takes the learner and the weights of the
                fixed start.
            plugins: the plug-ins that the data was distilled with.

        Returns:
            The model.

        Raises:
            ValueError: no model for data without a fixed start, or a model that does not take the images or has fewer
                outputs than there are classes.
        """
        model = self.learner(plugins) if model is None else model
        weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        x = torch.tensor(self.images).to(next(iter(weights.values())))
        y = torch.tensor(self.labels, device=x.device)
        rates = {name: torch.tensor(rate, device=x.device) for name, rate in self.rates.items()}
        inner = InnerSpec.model_validate(self.manifest.get("spec", {}).get("inner", {}))
        objective = of_labels(inner.objective, plugins, "manifest.spec.inner.objective")
        optimiser = optimisers.resolve(inner, plugins) or optimisers.choose(rates)
        self._check_model(model, x)

        def gradients(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor | None]:
            leaves = {name: p.requires_grad_() for name, p in parameters.items()}
            loss = objective(Step(x, y, Out(functional_call(model, leaves, (x,))))).mean()
            return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)))

        def update(state: State, gradient: Tensor, hyper: Hyper) -> State:
            return optimiser.update(state, gradient, {name: rate.to(gradient.dtype) for name, rate in hyper.items()})

        batches = (((x[s], y[s]), {name: rate[t] for name, rate in rates.items()}) for t, s in enumerate(self.order))
        with torch.no_grad():
            state = {name: optimiser.init(p.detach()) for name, p in weights.items()}
            for name, (value, *_) in descend(state, batches, torch.enable_grad()(gradients), update).items():
                weights[name].copy_(value)
        return model

    def _check_model(self, model: nn.Module, x: Tensor) -> None:
        size = "x".join(map(str, x.shape[2:]))
        try:
            with torch.no_grad():
                logits = model(x[:1, 0])
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"the model does not take images of {size}: {' '.join(str(error).split())}") from error
        wanted = self.labels.shape[2] if self.labels.ndim == 3 else int(self.labels.max()) + 1
        exact = self.labels.ndim == 3
        if logits.ndim != 2 or logits.shape[1] < wanted or (exact and logits.shape[1] != wanted):
            raise ValueError(f"the model gives {tuple(logits.shape[1:])} outputs, this data has {wanted} classes")

    def fits(self, shape: tuple[int, ...], classes: int) -> None:
        """Check that networks for images of `shape` (C, H, W) can learn from this data; ValueError if not."""
        own = tuple(self.images.shape[2:])
        known = len(self.manifest["classes"]) if self.manifest.get("classes") is not None else classes
        if own != tuple(shape) or known != classes:
            mine, other = ("x".join(map(str, size)) for size in (own, shape))
            raise ValueError(
                f"this curriculum has images of {mine} and {known} classes, the data has {other} and {classes}"
            )

    def learner(self, plugins: registry.Plugins | None = None) -> nn.Module:
        """The network with the weights of the fixed start that the data was distilled for.

        Raises:
            ValueError: the data was distilled for random starts, or the weights do not fit the learner.
        """
        if self.theta0 is None:
            raise ValueError("this data was distilled for random starts and has no weights of its own: give a model")
        spec = LearnerSpec(**self.manifest["learner"])
        learner = learners.build(spec, self.images.shape[2:], len(self.manifest["classes"]), plugins)
        if learner.size != len(self.theta0):
            raise ValueError(f"theta0: {len(self.theta0)} weights do not fit {spec.name}, which has {learner.size}")
        return learner.load(torch.tensor(self.theta0))

    def longer(self, steps: int, seed: int = 0, plugins: registry.Plugins | None = None) -> Distilled:
        """The data shortened or extended to `steps` inner steps by its generator.

        The learned steps come first, unchanged. Further steps have new images, at rates that fall to 0 from 0.3 of the
        last learned ones and at the learned momentum.

        Args:
            steps: inner steps of the result, at least 1.
            seed: of the random draws for the new steps.
            plugins: the plug-ins that the data was distilled with.

        Raises:
            ValueError: the data has no generator, or it does not fit the manifest's spec.
        """
        from raystill.platform import synthesis  # most artefacts have no generator
        from raystill.platform.spec import DistillSpec

        if self.generator is None:
            raise ValueError("this data has no generator that could make it longer; distil with kind generator")
        if steps < 1:
            raise ValueError(f"steps is {steps}; a curriculum has at least 1")
        spec = DistillSpec.model_validate(self.manifest["spec"])
        synthesizer = synthesis.build(spec, self.images.shape[2:], len(self.manifest["classes"]), plugins)
        if synthesizer.longer is None:
            raise ValueError(f"synthesizer.curriculum: {spec.synthesizer.curriculum} has no generator to go on with")
        address = seeds.Address(self.manifest["seeds"]["run"], member=seed, stream="artefact")
        try:
            extended = synthesizer.longer({k: torch.tensor(v) for k, v in self.generator.items()}, steps, address)
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"the generator does not fit the manifest's spec: {error}") from error
        own = min(steps, len(self.order))  # these steps stay the same to the bit, whatever the generator draws
        x, y = extended.x.detach().numpy(), extended.y.detach().numpy()
        rates = {k: np.concatenate([v[:own], extended.hyper[k].detach().numpy()[own:]]) for k, v in self.rates.items()}
        images, labels = (
            np.concatenate([old[self.order[:own]], new[own:]]) for old, new in ((self.images, x), (self.labels, y))
        )
        order = np.arange(steps, dtype=np.int64)
        return replace(self, images=images, labels=labels, rates=rates, order=order, generator=None)

    @property
    def section(self) -> dict[str, Any]:
        """The manifest's section of the modality, empty where it has none."""
        section: dict[str, Any] = self.manifest.get(self.modality.name, {}) if self.modality.companion else {}
        return section

    def embed(self, examples: Sequence[Any]) -> torch.Tensor:
        """Embed real examples, such as texts, for networks trained on this data: float32 [N, C, H, W].

        Raises:
            ValueError: the modality needs no embedding, or the payload is missing.
        """
        if self.modality.companion is None or self.payload is None:
            raise ValueError(f"this data are {self.modality.plural} without a vocabulary to embed by")
        return torch.tensor(self.modality.companion.embed(self.payload, examples, self.images.shape[2:]))

    def dataset(self) -> TensorDataset:
        """All S * M images with their labels, step by step."""
        flat = self.images.reshape(-1, *self.images.shape[2:]), self.labels.reshape(-1, *self.labels.shape[2:])
        return TensorDataset(*(torch.tensor(values) for values in flat))

    def loader(self, batch_size: int | None = None, shuffle: bool = False, seed: int = 0) -> DataLoader:
        """Batches for any torch loop.

        Args:
            batch_size: of one pass over the images; None gives the T steps in their order, to be used with `rates`.
            shuffle: with a batch size, draw the images in random order.
            seed: of that order.
        """
        rng = seeds.torch_rng(seeds.Address(seed, stream="loader"))
        if batch_size is not None:
            return DataLoader(self.dataset(), batch_size, shuffle=shuffle, generator=rng)
        m = self.images.shape[1]
        steps = [list(range(s * m, (s + 1) * m)) for s in self.order.tolist()]
        return DataLoader(self.dataset(), batch_sampler=steps, generator=rng)


def _check(d: Distilled) -> None:
    """Raise a ValueError unless the parts of distilled data fit together."""

    def need(holds: bool, message: str) -> None:
        if not holds:
            raise ValueError(f"distilled data: {message}")

    arrays = {"images": d.images, "order": d.order, **{f"rates.{name}": rate for name, rate in d.rates.items()}}
    need(d.images.ndim == 5 and d.images.size > 0, f"images {d.images.shape} are not [S, M, C, H, W]")
    need(d.images.dtype == np.float32, f"images are {d.images.dtype}, not float32")
    rows = d.labels.ndim == 3 and d.labels.dtype == np.float32
    need(rows or (d.labels.ndim == 2 and d.labels.dtype == np.int64), "labels are neither int64 ids nor float32 rows")
    need(d.labels.shape[:2] == d.images.shape[:2], f"labels {d.labels.shape} do not fit images {d.images.shape}")
    need(d.order.ndim == 1 and d.order.size > 0 and d.order.dtype == np.int64, "order is not int64 [T]")
    need(0 <= d.order.min() <= d.order.max() < len(d.images), f"order names a step outside 0..{len(d.images) - 1}")
    need("lr" in d.rates and set(d.rates) <= {"lr", "momentum"}, f"rates are {sorted(d.rates)}, not lr and momentum")
    for name, rate in d.rates.items():
        need(rate.shape == d.order.shape and rate.dtype == np.float32, f"rates.{name} is not float32 [T]")
    for key in ("learner", "normalisation", "spec", *([d.modality.name] if d.modality.companion else [])):
        need(isinstance(d.manifest.get(key, {}), dict), f"manifest.{key} is not a mapping")
    for key, values in d.manifest.get("normalisation", {}).items():
        need(np.shape(values) == (d.images.shape[2],), f"normalisation.{key} is not one number for each channel")
    if d.modality.companion is not None:
        why = d.modality.companion.problem(d.section, d.images, d.payload)
        need(not why, why)
    classes = d.manifest.get("classes")
    if classes is not None:
        top, count = (d.labels.shape[2], len(classes)) if rows else (int(d.labels.max()) + 1, len(classes))
        need((rows or d.labels.min() >= 0) and top <= count, f"labels do not fit the {count} classes")
    for name, array in (d.generator or {}).items():
        need(array.dtype == np.float32, f"generator.{name} is {array.dtype}, not float32")
        arrays[f"generator.{name}"] = array
    if d.theta0 is not None:
        need(d.theta0.ndim == 1 and d.theta0.dtype == np.float32, "theta0 is not float32 [P]")
        arrays["theta0"] = d.theta0
    for name, array in (*arrays.items(), ("labels", d.labels)):
        need(bool(np.isfinite(array).all()), f"{name} has numbers that are not finite")
