"""A source of series: sine, square and sawtooth waves with a phase and noise of their own."""

from __future__ import annotations

import numpy as np

from raystill.platform.data import Portion, Raw
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import DataSpec

LENGTH, EACH = 24, 40
CLASSES = ("sine", "square", "sawtooth")


def waves(spec: DataSpec) -> Raw:
    """40 training and 20 test waves of each class."""
    return Raw({"train": _portion(EACH, "train"), "test": _portion(EACH // 2, "test")}, CLASSES, "series")


def _portion(each: int, stream: str) -> Portion:
    rng = numpy_rng(Address(0, stream=f"waves/{stream}"))
    y = np.arange(3 * each) % 3
    time = 2 * np.linspace(0, 1, LENGTH) + rng.uniform(0, 0.15, (len(y), 1))
    sine = np.sin(2 * np.pi * time)
    x = np.choose(y[:, None], [sine, np.sign(sine), 2 * (time % 1) - 1]) + 0.1 * rng.standard_normal(time.shape)
    return Portion(x.astype(np.float32), y)
