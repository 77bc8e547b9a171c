"""A modality of a plug-in, from its source to its report: rows of a table, standardised by the training rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image

from raystill.actors.drive import pipeline
from raystill.platform.artifacts import load_distilled
from raystill.platform.data import Portion, Raw, load
from raystill.platform.data.modality import Encoded, Modality, Rendering, Request
from raystill.platform.spec import DataSpec, DistillSpec

COLUMNS = ("length", "width", "weight")


def rows(count: int, stream: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two classes, a unit apart in each column; columns of three scales."""
    rng = np.random.Generator(np.random.Philox(stream))
    y = np.arange(count) % 2
    return (y[:, None] + 0.2 * rng.standard_normal((count, 3))) * [1.0, 10.0, 100.0], y


def source(spec: DataSpec) -> Raw:
    return Raw({"train": Portion(*rows(120, 1)), "test": Portion(*rows(40, 2))}, ("small", "large"), modality="row")


def decode(portions: Mapping[str, Portion], request: Request) -> Encoded:
    train = np.asarray(portions["train"].images)
    mean, std = train.mean(0), train.std(0)
    return Encoded({k: ((np.asarray(p.images) - mean) / std).astype(np.float32) for k, p in portions.items()})


def render(x: np.ndarray, manifest: Mapping[str, Any]) -> Rendering:
    def html(step: int, position: int, alt: str) -> Markup:
        cells = Markup("").join(
            Markup("<td>{} {:.2f}</td>").format(name, v) for name, v in zip(COLUMNS, x[step, position, 0, 0])
        )
        return Markup('<table class="row" aria-label="{}"><tr>{}</tr></table>').format(alt, cells)

    def picture(step: int, position: int, side: int) -> Image.Image:
        grey = np.clip(128 + 60 * x[step, position, 0], 0, 255).astype(np.uint8)
        return Image.fromarray(grey).resize((side, side // 4), Image.Resampling.NEAREST).convert("RGB")

    return Rendering("Each column in standard deviations.", html, picture, (200, 100))


ROW = Modality(
    "row", "row", decode, lambda x, table: x[:, None, None, :], lambda shape: f"{shape[2]} columns", render
)  # fmt: skip
PLUGINS = {"sources": {"scales": source}, "modalities": {"row": ROW}}


def spec(out: Path) -> DistillSpec:
    return DistillSpec.model_validate(
        {
            "data": {"source": "scales", "cache": out / "cache"},
            "learner": {"name": "linear"},
            "synthesizer": {"epochs": 2, "start": "average"},
            "inner": {"lr": 0.1},
            "outer": {"steps": 10, "members": 2, "chunk": 1, "batch_size": 32, "lr": 0.05},
            "validation": {"every": 5, "networks": 1},
            "assess": {"networks": 2, "candidates": 2, "baselines": True},
            "run": {"out": out, "workers": 0, "device": "cpu"},
            "tracking": {"enabled": False},
        }
    )


def test_rows_are_distilled_assessed_and_shown_by_their_own_modality(tmp_path: Path) -> None:
    data = load(spec(tmp_path).data, PLUGINS)
    assert data.shape == (1, 1, 3)
    assert data.modality is ROW
    distilled = pipeline.distill(spec(tmp_path), PLUGINS)
    folder = tmp_path / "run-1"
    assert distilled.modality is ROW
    assert json.loads((folder / "artefact" / "manifest.json").read_text())["modality"] == "row"
    page = (folder / "report.html").read_text()
    assert "The rows" in page
    assert "rows of 3 columns" in page
    assert f"<td>weight {distilled.images[0, 0, 0, 0, 2]:.2f}</td>" in page
    assert "40 rows" in page
    measured = {row["name"]: row for row in json.loads((folder / "assessment.json").read_text())["rows"]}
    assert measured["1-NN (l2) on the distilled images"]["accuracy_mean"] > 95
    assert np.isfinite([row["accuracy_mean"] for row in measured.values()]).all()
    with pytest.raises(ValueError, match=r"manifest.modality: unknown 'row'; .*valid: image, "):
        load_distilled(folder / "artefact")
