"""A network, an objective and a data source of your own: plain callables, no fork."""

import numpy as np
import torch.nn.functional as F
from torch import nn

import raystill.actors
from raystill.platform.data import Raw
from raystill.platform.spec import DistillSpec


def tiny(shape, classes, width, depth):
    """A network with one convolution."""
    return nn.Sequential(
        nn.Conv2d(shape[0], 8, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, classes)
    )


def smooth(step):
    """Cross-entropy with 10 % label smoothing; one loss per sample."""
    return F.cross_entropy(step.student.logits, step.y, reduction="none", label_smoothing=0.1)


def stripes(spec):
    """Images of horizontal and vertical stripes."""
    rng = np.random.default_rng(0)
    y = np.arange(600) % 2
    x = rng.integers(0, 120, (600, 12, 12), dtype=np.uint8)
    x[y == 0, ::2] += 120
    x[y == 1, :, ::2] += 120
    return Raw(splits={"train": (x[:500], y[:500]), "test": (x[500:], y[500:])}, classes=["horizontal", "vertical"])


spec = DistillSpec.model_validate({
    "data": {"source": "stripes"},
    "learner": {"name": "tiny"},
    "synthesizer": {"steps": 2, "epochs": 2},
    "inner": {"lr": 0.1},
    "outer": {"steps": 40, "batch_size": 64, "objective": "smooth"},
    "assess": {"networks": 5, "baselines": False},
    "run": {"workers": 0},
    "tracking": {"enabled": False},
})  # fmt: skip
plugins = {"learners": {"tiny": tiny}, "objectives": {"smooth": smooth}, "sources": {"stripes": stripes}}
distilled = raystill.actors.distill(spec, plugins)
print(f"images {distilled.images.shape}, labels {distilled.labels.tolist()}")
