"""Distilled data in memory, and how a network learns from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from raystill.platform import learners, registry, seeds
from raystill.platform.data import Text
from raystill.platform.data.text import ids_of, tokens
from raystill.platform.objectives import OBJECTIVES, Out, Step
from raystill.platform.spec import LearnerSpec


@dataclass(frozen=True, eq=False)
class Distilled:
    """Distilled data and how to use it.

    Attributes:
        images: float32 [S, M, C, H, W], (pixel / 255 - mean) / std; S steps of M images.
        labels: int64 [S, M] ids, or float32 [S, M, K] rows, which need not sum to one.
        rates: float32 [T] each: `lr`, and `momentum` where there is one; T inner steps.
        order: int64 [T], which of the S steps' images each inner step uses.
        theta0: float32 [P] for a fixed start, else None.
        manifest: learner, initialisation, seeds, spec, normalisation (mean, std), classes, fingerprint, versions; of
            sentences, `text`: length, embeddings, and the nearest word of each token.
        text: of sentences (C is 1, H tokens, W numbers of a vector), the vocabulary and its vectors.

    Raises:
        ValueError: shapes or types that do not fit together, or numbers that are not finite.
    """

    images: np.ndarray
    labels: np.ndarray
    rates: dict[str, np.ndarray]
    order: np.ndarray
    theta0: np.ndarray | None
    manifest: dict[str, Any]
    text: Text | None = None

    def __post_init__(self) -> None:
        _check(self)

    def train(self, model: nn.Module | None = None, plugins: registry.Plugins | None = None) -> nn.Module:
        """Trains a model on the distilled steps in their order, each with its learned rate; in place.

        The loss is the mean of the inner objective that the data was distilled for (cross-entropy on ids or rows);
        the update is the heavy ball, v' = mu v + g, theta' = theta - lr v'.

        Args:
            model: starts from its own weights, on its own device. None takes the learner and the weights that a
                fixed start was distilled for.
            plugins: parts of your own that the data was distilled with, as `distill` took them.

        Returns:
            The model.

        Raises:
            ValueError: no model for data that was not distilled for one fixed start.
        """
        model = self.learner(plugins) if model is None else model
        weights = [p for p in model.parameters() if p.requires_grad]
        x = torch.tensor(self.images).to(weights[0])
        y = torch.tensor(self.labels, device=x.device)
        rates = {name: torch.tensor(rate, device=x.device) for name, rate in self.rates.items()}
        velocity = [torch.zeros_like(p) for p in weights]
        inner = self.manifest.get("spec", {}).get("inner", {}).get("objective", "cross_entropy")
        objective = registry.resolve("objectives", inner, OBJECTIVES, plugins, "manifest.spec.inner.objective")
        for t, s in enumerate(self.order):
            loss = objective(Step(x[s], y[s], Out(model(x[s])))).mean()
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
            with torch.no_grad():
                for p, v, g in zip(weights, velocity, gradients):
                    if g is not None:
                        if "momentum" in rates:
                            g = rates["momentum"][t].to(p.dtype) * v + g
                            v.copy_(g)
                        p.sub_(rates["lr"][t].to(p.dtype) * g)
        return model

    def learner(self, plugins: registry.Plugins | None = None) -> nn.Module:
        """The network that a fixed start was distilled for, with its starting weights.

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

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Real texts as the networks of this data read them, float32 [N, 1, L, D]: cut into tokens, embedded, padded.

        Raises:
            ValueError: the data are no sentences.
        """
        if self.text is None:
            raise ValueError("this data are images, not sentences, and have no vocabulary to embed a text with")
        number = {word: i for i, word in enumerate(self.text.words)}
        ids = ids_of([tokens(text) for text in texts], number, self.images.shape[3])
        return torch.tensor(self.text.table[ids][:, None])

    def dataset(self) -> TensorDataset:
        """All S * M images with their labels, step by step."""
        flat = self.images.reshape(-1, *self.images.shape[2:]), self.labels.reshape(-1, *self.labels.shape[2:])
        return TensorDataset(*(torch.tensor(values) for values in flat))

    def loader(self, batch_size: int | None = None, shuffle: bool = False, seed: int = 0) -> DataLoader:
        """Batches for any torch loop.

        Args:
            batch_size: None gives the T batches in their learned order, to be used with `rates`; a number gives one
                pass over the images in batches of that size.
            shuffle: with a batch size, draws the images in an order that depends on `seed` alone.
        """
        rng = seeds.torch_rng(seeds.Address(seed, stream="loader"))
        if batch_size is not None:
            return DataLoader(self.dataset(), batch_size, shuffle=shuffle, generator=rng)
        m = self.images.shape[1]
        steps = [list(range(s * m, (s + 1) * m)) for s in self.order.tolist()]
        return DataLoader(self.dataset(), batch_sampler=steps, generator=rng)


def _check(d: Distilled) -> None:
    """Raises ValueError unless the parts of distilled data fit together."""

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
    for key in ("learner", "normalisation", "spec", "text"):
        need(isinstance(d.manifest.get(key, {}), dict), f"manifest.{key} is not a mapping")
    for key, values in d.manifest.get("normalisation", {}).items():
        need(np.shape(values) == (d.images.shape[2],), f"normalisation.{key} is not one number for each channel")
    if "text" in d.manifest:
        for key in ("nearest", "cosines"):
            need(np.shape(d.manifest["text"].get(key)) == (*d.images.shape[:2], d.images.shape[3]),
                 f"manifest.text.{key} is not one for each token")  # fmt: skip
    if d.text is not None:
        fits = d.text.table.shape == (len(d.text.words), d.images.shape[4]) and d.text.table.dtype == np.float32
        need(fits, "the words' vectors do not fit the sentences")
    classes = d.manifest.get("classes")
    if classes is not None:
        top, count = (d.labels.shape[2], len(classes)) if rows else (int(d.labels.max()) + 1, len(classes))
        need((rows or d.labels.min() >= 0) and top <= count, f"labels do not fit the {count} classes")
    if d.theta0 is not None:
        need(d.theta0.ndim == 1 and d.theta0.dtype == np.float32, "theta0 is not float32 [P]")
        arrays["theta0"] = d.theta0
    for name, array in (*arrays.items(), ("labels", d.labels)):
        need(bool(np.isfinite(array).all()), f"{name} has numbers that are not finite")
