"""Every recipe for a few steps on tiny data: the same bytes whoever computes, an artefact that opens, a report.

A recipe needs no row here: `SHRINK` cuts what every recipe has, `FAMILIES` says what else a family needs, by the
pattern of its names, and recipes of texts read a tiny corpus.
"""

from __future__ import annotations

import fnmatch
import hashlib
from pathlib import Path
from typing import Any

import pytest

from raystill.actors import pretrain
from raystill.actors.drive import pipeline
from raystill.platform.artifacts.files import load_distilled
from raystill.platform.command_line.options import merge
from raystill.platform.recipes import of, recipe
from raystill.platform.spec import DistillSpec, PretrainSpec

LEARNER = {"width": 2, "depth": None}
DATA = {"source": "digits", "size": 16, "limit": 60}
SHRINK: dict[str, Any] = {
    "data": DATA,
    "learner": LEARNER,
    "outer": {"steps": 2, "batch_size": 16, "cycles": 1, "warmup": 0, "intermediate_every": None},
    "validation": {"every": 1, "networks": 1, "images": 20},
    "assess": {"networks": 1, "baselines": False, "architectures": ()},
    "run": {"device": "cpu", "checkpoint_every": 1},
    "tracking": {"enabled": False},
}
FAMILIES: dict[str, dict[str, Any]] = {
    "gtn-*": {"learner": {"name": "convnet", "depth": 1}, "synthesizer": {"images": 5, "channels": 2, "latent": 2}},
}
"""Pattern of names -> what else is cut, or replaced, for those recipes."""


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny pool for each learner that asks for one."""
    out, made = tmp_path_factory.mktemp("pools"), {}

    def path(learner: str) -> Path:
        if learner not in made:
            spec = PretrainSpec.model_validate({
                "data": DATA, "learner": {"name": learner, **LEARNER}, "members": 2, "held_out": 1, "epochs": 1,
                "run": {"out": out, "workers": 0, "name": learner},
            })  # fmt: skip
            made[learner] = pretrain.pretrain(spec).path
        return made[learner]

    return path


def tiny(name: str, out: Path, workers: int, pools: Any, corpus: Path) -> DistillSpec:
    """A recipe with everything small."""
    told = recipe(name)
    found = merge(merge(told, SHRINK), {"recipe": name, "run": {"out": out, "workers": workers, "name": "run"}})
    part = found.get("synthesizer", {})
    few = {key: min(part[key], 2) for key in ("steps", "epochs", "per_class") if key in part}
    found["synthesizer"] = {**part, **few}
    if found.get("meta", {}).get("window"):
        found["meta"] = {**found["meta"], "window": 1}
    if found.get("initialisation", {}).get("path"):
        found["initialisation"] = {**found["initialisation"], "path": pools(found["learner"]["name"])}
    if name.startswith("text-"):
        found["data"] = {"source": f"parquet:{corpus}", "embedding_width": 8, "limit": 60}
    for pattern, more in FAMILIES.items():
        if fnmatch.fnmatch(name, pattern):
            found = merge(found, more)
    return DistillSpec.model_validate(found)


def digest(folder: Path) -> dict[str, str]:
    """Of what a result is made of; the manifest has times in it."""
    files = sorted((folder / "artefact").glob("*.*"))
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.name != "manifest.json"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, pools: Any, corpus: Path) -> Any:
    """The folder of a recipe's run in this process."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            out = tmp_path_factory.mktemp(name)
            pipeline.distill(tiny(name, out, 0, pools, corpus))
            made[name] = out / "run"
        return made[name]

    return folder


@pytest.mark.parametrize("name", of("distill"))
def test_the_artefact_opens_and_the_report_renders(name: str, alone: Any) -> None:
    folder = alone(name)
    distilled = load_distilled(folder / "artefact")
    told = recipe(name)
    assert distilled.labels.ndim == (3 if told["synthesizer"].get("labels") == "soft" else 2)
    assert (distilled.theta0 is not None) == (told["initialisation"]["kind"] in ("fixed", "pretrained"))
    assert distilled.manifest["name"] == name
    page = (folder / "report.html").read_text()
    shown = '<p class="sentence"' if distilled.modality.name == "text" else "<img"
    assert page.count(shown) >= len(distilled.images[0])
    assert "What they were before the first step" in page
    assert f"--recipe {name}" in page
    if distilled.theta0 is not None:
        distilled.train()


@pytest.mark.ray
@pytest.mark.parametrize("name", of("distill"))
def test_two_evaluators_give_the_same_bytes(
    name: str, tmp_path: Path, ray_cluster: None, alone: Any, pools: Any, corpus: Path
) -> None:
    pipeline.distill(tiny(name, tmp_path, 2, pools, corpus))
    assert digest(tmp_path / "run") == digest(alone(name))
