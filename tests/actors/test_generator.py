"""A generator in the distributed loop: the same bytes, whoever computes; its artefact teaches, and grows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raystill.actors.drive import pipeline
from raystill.actors.server.parameter_server import ParameterServer
from raystill.platform import learners, seeds
from raystill.platform.artifacts.files import load_distilled
from raystill.platform.data import load
from raystill.platform.spec import DistillSpec, LearnerSpec

pytestmark = pytest.mark.ray
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "all-shuffled": {"synthesizer": {"curriculum": "all-shuffled", "labels": "soft"}, "outer": {"delay": 1}},
    "none": {"synthesizer": {"curriculum": "none"}, "learner": {"draw": "macro", "trial": 10}, "outer": {"steps": 4}},
}


def spec(out: Path, workers: int, changes: dict[str, Any]) -> DistillSpec:
    parts: dict[str, Any] = {
        "learner": {"name": "mlp", "width": 16, "depth": 1, "weight_norm": True},
        "synthesizer": {
            "kind": "generator", "images": 10, "steps": 4, "epochs": 1, "latent": 8, "hidden": 16, "channels": 4,
        },
        "inner": {"lr": 0.1, "momentum": 0.5, "learn_momentum": True},
        "outer": {
            "steps": 8, "members": 4, "chunk": 2, "batch_size": 64, "ema": 0.9,
            "intermediate_every": 2, "intermediate_size": 32,
        },
        "validation": {"every": 4, "networks": 2, "images": 100},
        "assess": {"networks": 2, "baselines": False},
        "run": {"out": out, "workers": workers, "checkpoint_every": 3, "device": "cpu"},
        "tracking": {"enabled": False},
    }  # fmt: skip
    return DistillSpec.model_validate({k: {**part, **changes.get(k, {})} for k, part in parts.items()})


def digests(artefact: Path) -> list[str]:
    names = ("data.parquet", "generator.safetensors")
    return [hashlib.sha256((artefact / name).read_bytes()).hexdigest() for name in names]


@pytest.mark.parametrize("variant", VARIANTS)
def test_evaluators_change_no_byte(tmp_path: Path, ray_cluster: None, variant: str) -> None:
    found = []
    for workers in (0, 1, 2):
        pipeline.distill(spec(tmp_path / str(workers), workers, VARIANTS[variant]))
        found.append(digests(tmp_path / str(workers) / "run-1" / "artefact"))
    assert found[0] == found[1] == found[2]


def test_a_resumed_run_has_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = spec(tmp_path / "whole", 0, {})
    pipeline.distill(whole)
    folder = tmp_path / "cut" / "run-1"
    apply, seen = ParameterServer.apply, []

    def fails_once(server: ParameterServer, attempt: int, step: int, *rest: Any) -> Any:
        seen.append(step)
        if seen.count(5) == 1 and step == 5:
            raise OSError("the machine is off")
        return apply(server, attempt, step, *rest)

    monkeypatch.setattr(ParameterServer, "apply", fails_once)
    with pytest.raises(OSError, match="off"):
        pipeline.distill(spec(tmp_path / "cut", 0, {}))
    pipeline.resume(folder)
    assert seen == [0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7]
    assert digests(folder / "artefact") == digests(tmp_path / "whole" / "run-1" / "artefact")


def test_the_artefact_trains_a_model_and_can_be_made_longer(tmp_path: Path) -> None:
    changes = {
        "learner": {"width": 64}, "synthesizer": {"images": 20, "hidden": 64, "channels": 16, "steps": 8},
        "outer": {"steps": 80, "members": 2}, "validation": {"every": 40},
    }  # fmt: skip
    kept = pipeline.distill(spec(tmp_path, 0, changes))
    distilled = load_distilled(tmp_path / "run-1" / "artefact")
    assert distilled.generator.keys() == kept.generator.keys()
    assert all(np.array_equal(v, kept.generator[k]) for k, v in distilled.generator.items())
    data = load(DistillSpec().data)
    x, y = data.test.x.astype(np.float32) / 255, data.test.y
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (data.mean, data.std))
    learner = learners.build(LearnerSpec(**distilled.manifest["learner"]), data.shape, len(data.classes))

    def accuracy(model: nn.Module) -> float:
        logits = model(torch.from_numpy((x - mean) / std))
        return float((logits.argmax(1).numpy(force=True) == y).mean())

    untrained = accuracy(learner.load(learner.init(seeds.Address(5))))
    trained = accuracy(distilled.train(learner.load(learner.init(seeds.Address(5)))))
    assert trained > max(0.5, untrained + 0.2)
    longer = distilled.longer(11)
    assert longer.images.shape == (11, 20, 1, 8, 8)
    assert np.array_equal(longer.images[:8], distilled.images[distilled.order])
    assert np.array_equal(longer.images, distilled.longer(11).images)
    assert not np.array_equal(longer.images[8:], distilled.longer(11, seed=1).images[8:])
    assert np.array_equal(distilled.longer(2).images, distilled.images[:2])
    assert accuracy(longer.train(learner.load(learner.init(seeds.Address(5))))) > 0.5
    with pytest.raises(ValueError, match="steps is 0"):
        distilled.longer(0)
    with pytest.raises(ValueError, match="no generator that could make it longer"):
        longer.longer(9)
