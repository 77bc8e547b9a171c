"""Curricula of noise, and specs of small searches on digits."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raystill.platform.artifacts.files import Distilled
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import TrackingSpec
from raystill.platform.tracking.tracker import Tracker
from raystill.search.nas.spec import NasSpec
from raystill.search.ranking.levels import LEVELS, Level, Protocol


@pytest.fixture
def noise() -> Callable[..., Distilled]:
    """Makes a curriculum of `steps` steps for images of a shape."""

    def make(shape: tuple[int, ...] = (1, 8, 8), classes: int = 10, steps: int = 4) -> Distilled:
        rng = numpy_rng(Address(1, stream="noise"))
        return Distilled(
            rng.standard_normal((steps, 10, *shape)).astype(np.float32),
            np.tile(np.arange(10) % classes, (steps, 1)).astype(np.int64),
            {"lr": np.full(steps, 0.05, np.float32), "momentum": np.full(steps, 0.5, np.float32)},
            np.arange(steps)[::-1].astype(np.int64).copy(), None, {"classes": [str(k) for k in range(classes)]},
        )  # fmt: skip

    return make


@pytest.fixture
def small() -> Callable[..., NasSpec]:
    """Makes the spec of a search of seconds."""

    def make(out: Path, workers: int = 0, **changes: Any) -> NasSpec:
        tracking = changes.pop("tracking", {"enabled": False})
        return NasSpec.model_validate({
            "candidates": 24, "generation": 8, "steps": 4, "images": 100, "retrain": 2, "retrain_steps": 16,
            "run": {"out": out, "workers": workers, "device": "cpu"}, "tracking": tracking, **changes,
        })  # fmt: skip

    return make


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow's, made once: to make one takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    Tracker.start(TrackingSpec(uri=f"sqlite:///{path}", experiment="fresh"), "first", {}).finish()
    return path


@pytest.fixture
def store(fresh_store: Path, tmp_path: Path) -> str:
    """The address of a store of this test alone."""
    return f"sqlite:///{shutil.copy(fresh_store, tmp_path / 'mlflow.db')}"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Level:
    """The level `digits` cut down to a second of work."""
    old = LEVELS["digits"]
    found = Level(old.space, old.data, 6, 2, Protocol(8))
    monkeypatch.setitem(LEVELS, "digits", found)
    return found
