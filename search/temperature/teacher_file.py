"""A teacher on disk: what it says to every training image, its parameters, and on which data it was trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raystill.platform.data import DataSet
from raystill.platform.files import arrays
from raystill.platform.spec import LearnerSpec


@dataclass(frozen=True)
class Teacher:
    """What a search needs of its teacher.

    Attributes:
        logits: float32 [N, K], on the training split in its order.
        theta: float32 [P].
        accuracy: on the validation split, 0 to 1.
    """

    logits: np.ndarray
    theta: np.ndarray
    learner: LearnerSpec
    accuracy: float


def write(path: Path, teacher: Teacher, data: DataSet) -> None:
    """Keep a teacher."""
    facts = {
        "learner": teacher.learner.model_dump(mode="json"), "accuracy": teacher.accuracy, "data": data.name,
        "fingerprint": data.fingerprint, "classes": list(data.classes),
    }  # fmt: skip
    arrays.write(path, {"logits": teacher.logits, "theta": teacher.theta}, facts)


def read(path: Path, data: DataSet) -> Teacher:
    """A teacher of the same data.

    Raises:
        ValueError: no such file, a torn one, other classes, or other training images than the students'.
    """
    if not path.exists():
        raise ValueError(f"teacher.file: {path} does not exist")
    try:
        parts, facts = arrays.read(path)
        logits, classes = parts["logits"], facts["classes"]
        learner = LearnerSpec.model_validate(facts["learner"])
        teacher = Teacher(logits, parts["theta"], learner, float(facts["accuracy"]))
    except (KeyError, ValueError) as error:
        raise ValueError(f"teacher.file: {path} is not a teacher: {' '.join(str(error).split())[:160]}") from None
    if classes != list(data.classes) or logits.shape[1:] != (len(data.classes),):
        raise ValueError(
            f"teacher.file: {path} knows {len(classes)} classes ({', '.join(classes[:3])}, ...), but the students' "
            f"data {data.name} has {len(data.classes)} ({', '.join(data.classes[:3])}, ...); both must have the same"
        )
    if facts["fingerprint"] != data.fingerprint:
        raise ValueError(
            f"teacher.file: {path} was asked about other images than these (data {facts['data']}, fingerprint "
            f"{facts['fingerprint'][:12]}, not {data.fingerprint[:12]}); give the data section that it was made with"
        )
    return teacher
