"""Distil scikit-learn's digits into ten images a step, from Python."""

import raystill.actors
from raystill.platform.spec import DistillSpec

spec = DistillSpec.model_validate({
    "learner": {"name": "mlp", "width": 64},
    "synthesizer": {"steps": 2, "epochs": 5, "start": "average"},
    "inner": {"lr": 0.1, "momentum": 0.5, "learn_momentum": True},
    "outer": {"steps": 60, "lr": 0.03, "batch_size": 256},
    "assess": {"networks": 5, "baselines": False},
    "run": {"workers": 0},
    "tracking": {"enabled": False},
})  # fmt: skip

distilled = raystill.actors.distill(spec)
print(f"{distilled.images.shape[0] * distilled.images.shape[1]} images, learned rates {distilled.rates['lr'].round(3)}")
