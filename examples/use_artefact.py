"""Train a network of your own on distilled data, and use the data in any torch loop."""

import sys
from pathlib import Path

import torch
from torch import nn

from raystill.platform.artifacts import load_distilled
from raystill.platform.data import load
from raystill.platform.data.resident import resident
from raystill.platform.spec import DataSpec

artefact = Path(sys.argv[1]) if len(sys.argv) > 1 else sorted(Path("runs").glob("*/artefact"))[-1]
distilled = load_distilled(artefact)  # checks every file's sha256

inputs, classes = distilled.images[0, 0].size, len(distilled.manifest["classes"])
model = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 100), nn.ReLU(), nn.Linear(100, classes))
distilled.train(model)  # the learned steps in their order, each with its learned rate

digits = load(DataSpec(source=distilled.manifest["source"]["name"]))
x, y = (part := resident(digits.test, digits)).batch(torch.arange(len(part)))
print(f"test accuracy of a network that never saw a real image: {(model(x).argmax(1) == y).float().mean():.1%}")

for images, labels in distilled.loader(batch_size=10):
    print(f"a batch for a loop of your own: {tuple(images.shape)}, {tuple(labels.shape)}")
    break
