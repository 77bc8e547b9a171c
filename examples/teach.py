"""Train a generative teaching network for scikit-learn's digits, and let its curriculum teach a network."""

import torch

import raystill.actors
from raystill.platform import learners
from raystill.platform.data import load
from raystill.platform.data.resident import resident
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec

spec = DistillSpec.model_validate({
    "learner": {"name": "mlp", "width": 64, "weight_norm": True},
    "synthesizer": {"kind": "generator", "images": 20, "steps": 8, "epochs": 1, "hidden": 64, "channels": 16},
    "inner": {"lr": 0.1, "momentum": 0.5, "learn_momentum": True},
    "outer": {"steps": 60, "members": 2, "batch_size": 128, "intermediate_every": 2, "intermediate_size": 64,
              "lr": 0.005, "ema": 0.95},
    "assess": {"networks": 5, "baselines": False},
    "run": {"workers": 0},
    "tracking": {"enabled": False},
})  # fmt: skip

curriculum = raystill.actors.distill(spec)
digits = load(spec.data)
learner = learners.build(spec.learner, digits.shape, len(digits.classes))
x, y = (part := resident(digits.test, digits)).batch(torch.arange(len(part)))

for steps in (1, 4, 8, 16):  # twice as many as it was trained for: new images from the same generator
    model = curriculum.longer(steps).train(learner.load(learner.init(Address(7))))
    print(f"test accuracy after {steps:2d} steps on generated digits: {(model(x).argmax(1) == y).float().mean():.1%}")
