"""The recipe that a search leaves: the chosen setting as a distillation for `raystill kd --config`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from raystill.platform.files.storage import write_whole
from raystill.search.temperature.settings import Setting
from raystill.search.temperature.spec import TemperatureSpec


def write(folder: Path, spec: TemperatureSpec, settings: list[Setting]) -> None:
    """Write `recipe.yaml`, or one for each width."""
    for setting in settings:
        name = f"recipe-{setting.width}.yaml" if len(settings) > 1 else "recipe.yaml"
        write_whole(folder / name, recipe(spec, setting, folder.name).encode())


def recipe(spec: TemperatureSpec, setting: Setting, run: str) -> str:
    """YAML of a distillation at a setting: Hinton's recipe, the search's data and networks.

    Steps, batches and rates are the search's, too: a temperature is chosen for a length of training.

    Args:
        run: name of the search.
    """
    training, teacher = spec.student.training, spec.teacher.training
    body: dict[str, Any] = {
        "recipe": "kd-hinton",
        "data": spec.data.model_dump(mode="json", exclude_defaults=True) or {"source": spec.data.source},
        "student": spec.learner(setting.width).model_dump(mode="json", exclude_defaults=True),
        "teacher": spec.teacher.learner.model_dump(mode="json", exclude_defaults=True),
        "temperature": setting.temperature,
        "alpha": setting.alpha,
        "train": {"steps": training.steps, "batch_size": training.batch_size},
        "optimizer": {"lr": training.lr, "momentum": training.momentum},
        "stages": {"teacher": {"steps": teacher.steps, "lr": teacher.lr}},
    }
    return f"# Chosen by validation in {run}: {setting}.\n{yaml.safe_dump(body, sort_keys=False)}"
