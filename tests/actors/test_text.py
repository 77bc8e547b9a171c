"""A small text recipe from its corpus to its report; the same bytes on any number of evaluators."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from raystill.actors.drive import pipeline
from raystill.platform import learners
from raystill.platform.artifacts.files import load_distilled
from raystill.platform.command_line.options import merge
from raystill.platform.recipes import RECIPES, recipe
from raystill.platform.spec import DistillSpec, LearnerSpec


def spec(out: Path, corpus: Path, workers: int = 0, **changes: object) -> DistillSpec:
    return DistillSpec.model_validate(
        {
            "data": {"source": f"parquet:{corpus}", "embedding_width": 8, "cache": out / "cache"},
            "learner": {"name": changes.pop("learner", "textcnn"), "width": 4, "depth": 1},
            "synthesizer": {"epochs": 2, "start": "real", "labels": "soft"},
            "initialisation": {"kind": changes.pop("kind", "fixed")},
            "inner": {"lr": 0.5},
            "outer": {"steps": changes.pop("steps", 4), "members": 2, "chunk": 1, "batch_size": 32, "lr": 0.1},
            "validation": {"every": 2, "networks": 2, "images": 40},
            "assess": {"networks": 2, "candidates": 3, "baselines": changes.pop("baselines", False)},
            "run": {"out": out, "workers": workers, "device": "cpu"},
            "tracking": {"enabled": False},
        }
    )


def digest(out: Path) -> str:
    return hashlib.sha256((out / "run-1" / "artefact" / "data.parquet").read_bytes()).hexdigest()


@pytest.mark.parametrize("learner", ["textcnn", "bilstm"])
def test_sentences_teach_a_network_and_come_back_as_words(tmp_path: Path, corpus: Path, learner: str) -> None:
    distilled = pipeline.distill(spec(tmp_path, corpus, learner=learner, steps=40))
    folder = tmp_path / "run-1"
    found = load_distilled(folder / "artefact")
    about = found.manifest["text"]
    assert found.images.shape == (1, 2, 1, about["length"], 8)
    assert found.payload is not None
    assert found.payload.fingerprint == about["fingerprint"]
    assert about["embeddings"].startswith("made of the training texts")
    assert about["truncated"] == {"train": 0, "test": 0}
    # a network trained on the artefact alone reads real texts as the run's own networks did
    accuracy = json.loads((folder / "assessment.json").read_text())["rows"][0]["accuracy_mean"]
    test = pq.read_table(corpus / "test.parquet")
    guess = distilled.train()(found.embed(test["text"].to_pylist())).argmax(1).numpy()
    assert 100 * (guess == test["label"].to_numpy()).mean() == pytest.approx(accuracy)
    assert accuracy >= 75
    page = (folder / "report.html").read_text()
    assert "The texts" in page
    assert f'title="cosine {about["cosines"][0][0][0]:.2f}">{about["nearest"][0][0][0]}</i>' in page
    assert "distilled texts of parquet:" in page
    words = pq.read_table(folder / "artefact" / "data.parquet")["nearest_words"].to_pylist()
    assert words == about["nearest"][0]


def test_a_real_start_is_a_training_text(tmp_path: Path, corpus: Path) -> None:
    made = spec(tmp_path, corpus, steps=1)
    found = pipeline.distill(made.model_copy(update={"outer": made.outer.model_copy(update={"lr": 1e-9})}))
    table = pq.read_table(corpus / "train.parquet")
    for label, sentence in enumerate(found.images[0]):
        own = [text for text, y in zip(table["text"].to_pylist(), table["label"].to_pylist()) if y == label]
        assert np.abs(found.embed(own).numpy() - sentence).max((1, 2, 3)).min() < 1e-5
    with pytest.raises(ValueError, match="are texts without a vocabulary"):
        replace(found, payload=None).embed(own)


def test_every_baseline_takes_texts(tmp_path: Path, corpus: Path) -> None:
    pipeline.distill(spec(tmp_path, corpus, learner="linear", kind="random", baselines=True))
    rows = {row["name"]: row for row in json.loads((tmp_path / "run-1" / "assessment.json").read_text())["rows"]}
    assert {"random real", "optimised real", "class averages", "k-means centroids", "1-NN (l2) on random real"} <= set(
        rows
    )
    assert rows["all training data"]["accuracy_mean"] > 95
    assert all(np.isfinite(row["accuracy_mean"]) for row in rows.values())


def test_images_learners_and_texts_learners_are_one_kind(corpus: Path, tmp_path: Path) -> None:
    made = pipeline.make_plan(spec(tmp_path, corpus, learner="linear"))
    assert learners.build(LearnerSpec(name="linear"), made.data.shape, 2).size == 2 * made.data.shape[1] * 8 + 2
    short = spec(tmp_path, corpus)
    short = short.model_copy(update={"data": short.data.model_copy(update={"length": 3})})
    with pytest.raises(ValueError, match=r"learner.name: textcnn needs 5 tokens or more, these texts have 3"):
        pipeline.make_plan(short)


@pytest.mark.ray
@pytest.mark.parametrize("workers", [1, 2])
def test_evaluators_change_no_byte(tmp_path: Path, corpus: Path, ray_cluster: None, workers: int) -> None:
    pipeline.distill(spec(tmp_path / "none", corpus))
    pipeline.distill(spec(tmp_path / "some", corpus, workers))
    assert digest(tmp_path / "some") == digest(tmp_path / "none")


@pytest.mark.data
@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("text-")])
def test_the_recipes_begin_on_real_texts(tmp_path: Path, name: str) -> None:
    small = {
        "outer": {"steps": 2, "batch_size": 16},
        "validation": {"every": 2, "networks": 1, "images": 50},
        "assess": {"networks": 1, "baselines": False},
        "run": {"out": tmp_path, "name": "run-1", "workers": 0},
        "tracking": {"enabled": False},
    }
    made = DistillSpec.model_validate(merge({**recipe(name), "recipe": name}, small))
    found = pipeline.distill(made)
    assert found.manifest["name"] == name
    assert found.images.shape[2:] == (1, found.manifest["text"]["length"], made.data.embedding_width)
    assert (tmp_path / "run-1" / "report.html").exists()
