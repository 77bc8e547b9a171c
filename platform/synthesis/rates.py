"""Learned rates of the inner steps: a learning rate and, where the spec has one, a momentum for each of T steps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raystill.platform import seeds
from raystill.platform.spec import InnerSpec
from raystill.platform.synthesis.synthesizer import LEARN, Meta


def start(inner: InnerSpec, steps: int) -> Meta:
    """First `lr` and `momentum`, float32 [steps], as the inputs of softplus and sigmoid."""
    meta: Meta = {"lr": np.full(steps, math.log(math.expm1(inner.lr)), np.float32)}
    if inner.momentum:
        meta["momentum"] = np.full(steps, math.log(inner.momentum / (1 - inner.momentum)), np.float32)
    return meta


def rates(inner: InnerSpec, meta: Mapping[str, Tensor], address: seeds.Address) -> dict[str, Tensor]:
    """The rates [T] of an unroll; the learning rate has jitter where the address is one of learning."""
    hyper = {"lr": F.softplus(meta["lr"] if inner.learn_lr else meta["lr"].detach())}
    if inner.jitter and address.stream == LEARN:
        hyper["lr"] = hyper["lr"] * (1 + inner.jitter * (seeds.numpy_rng(address).random() - 0.5))
    if "momentum" in meta:
        hyper["momentum"] = torch.sigmoid(meta["momentum"] if inner.learn_momentum else meta["momentum"].detach())
    return hyper


def groups(inner: InnerSpec) -> dict[str, str]:
    """Name of each learned rate -> field of the outer spec with its meta learning rate."""
    learned = {"lr": inner.learn_lr, "momentum": inner.learn_momentum}
    return {name: "rate_lr" for name, yes in learned.items() if yes}
