"""A teacher's file: its logits on every training image, its parameters, and the data that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from raystill.platform.data import DataSet
from raystill.platform.files import arrays
from raystill.platform.spec import LearnerSpec

Teacher = tuple[dict[str, np.ndarray], dict[str, Any]]
"""Arrays `logits` float32 [N, K] on the training split in its order and `theta` float32 [P]; facts, among them
`learner` (a LearnerSpec as JSON has it) and `accuracy` (on the validation split, 0 to 1)."""


def write(path: Path, parts: Mapping[str, np.ndarray], learner: LearnerSpec, accuracy: float, data: DataSet) -> None:
    """Write a teacher.

    Args:
        parts: `logits` and `theta`.
        accuracy: on the validation split, 0 to 1.
        data: that it was trained on.
    """
    facts = {
        "learner": learner.model_dump(mode="json"), "accuracy": accuracy, "data": data.name,
        "fingerprint": data.fingerprint, "classes": list(data.classes),
    }  # fmt: skip
    arrays.write(path, {name: np.asarray(parts[name]) for name in ("logits", "theta")}, facts)


def read(path: Path, data: DataSet) -> Teacher:
    """Read a trained teacher, its parameters and its logits of the training images, and check that it fits the data.

    Args:
        data: what the students learn from.

    Raises:
        ValueError: the file is missing, torn or no teacher; or its teacher has other classes, or was trained on data
            with another fingerprint (source, size, limit, split).
    """
    if not path.exists():
        raise ValueError(f"teacher.file: {path} does not exist")
    try:
        parts, facts = arrays.read(path)
        classes, shape = facts["classes"], parts["logits"].shape
        LearnerSpec.model_validate(facts["learner"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"teacher.file: {path} is not a teacher: {' '.join(str(error).split())[:160]}") from None
    if classes != list(data.classes) or shape[1:] != (len(data.classes),):
        raise ValueError(
            f"teacher.file: {path} knows {len(classes)} classes ({', '.join(classes[:3])}, ...), but the students' "
            f"data {data.name} has {len(data.classes)} ({', '.join(data.classes[:3])}, ...); both must have the same"
        )
    if facts["fingerprint"] != data.fingerprint:
        raise ValueError(
            f"teacher.file: {path} was asked about other images than these (data {facts['data']}, fingerprint "
            f"{facts['fingerprint'][:12]}, not {data.fingerprint[:12]}); give the data section that it was made with"
        )
    return parts, facts
