"""Teachers and their wrappers, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from raystill.platform.data.shift import shifted
from raystill.platform.learners import files
from raystill.platform.registry import Plugins, checked, resolve
from raystill.platform.students.augmentations import REDRAWN, Context, Transform, transform
from raystill.platform.students.spec import Named
from raystill.platform.students.teachers.contract import Mean, Teacher
from raystill.platform.students.teachers.networks import ema, ensemble, frozen, own, virtual
from raystill.platform.students.teachers.wrappers import noisy, sharpened, tta

__all__ = [
    "BASES", "WRAPPERS", "Mean", "Teacher", "TeacherContext", "ema", "ensemble", "frozen", "noisy", "own", "sharpened",
    "teacher", "tta", "virtual",
]  # fmt: skip


@dataclass(frozen=True)
class TeacherContext:
    """The arguments that all teachers share.

    Attributes:
        student: the network to train.
        networks: of earlier stages, by name.
        augmentation: context of transforms.
        at: module paths of the features that the objective compares.
        shape: of the images (C, H, W).
    """

    student: nn.Module
    networks: Mapping[str, nn.Module]
    augmentation: Context
    at: tuple[str, ...]
    shape: tuple[int, int, int]
    plugins: Plugins | None = None


def _frozen(context: TeacherContext, of: str = "", file: str = "") -> Teacher:
    if bool(of) == bool(file):
        raise ValueError("teacher.frozen: give `of`, a stage, or `file`, a network; not both")
    if of:
        return frozen(context.networks[of], context.at)
    mean, std = (tuple(v.flatten().tolist()) for v in (context.augmentation.mean, context.augmentation.std))
    module, _ = files.load_teacher(Path(file), context.shape, mean, std, "teacher.frozen.file", context.plugins)
    return frozen(module, context.at)


def _ensemble(context: TeacherContext, of: list[str], mean: str = "logits") -> Teacher:
    if mean not in ("logits", "probabilities"):
        raise ValueError(f"teacher.ensemble.mean: {mean!r}; valid: logits, probabilities")
    return ensemble([frozen(context.networks[name]) for name in of], mean)  # type: ignore[arg-type]


def _moves() -> list[Transform]:
    """The image itself, and shifted by one pixel each way."""
    return [
        lambda x, address, down=down, right=right: shifted(x, down, right)  # type: ignore[misc]
        for down, right in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
    ]


def _tta(
    context: TeacherContext, teacher: Teacher, kind: str = "moves", count: int = 2, mean: str = "logits"
) -> Teacher:
    if mean not in ("logits", "probabilities"):
        raise ValueError(f"teacher.tta.mean: {mean!r}; valid: logits, probabilities")
    if kind == "moves":
        return tta(teacher, _moves(), mean)  # type: ignore[arg-type]
    run = transform(context.augmentation, kind, "teacher.tta.kind")
    return tta(teacher, [run] * count, mean, f"its augmentation {kind} {REDRAWN}")  # type: ignore[arg-type]


BASES: dict[str, Callable[..., Teacher]] = {
    "frozen": _frozen,
    "ensemble": _ensemble,
    "virtual": lambda context, confidence=0.99: virtual(context.augmentation.classes, confidence),
    "own": lambda context: own(context.student, context.at),
    "ema": lambda context, decay=0.999, warm=True: ema(context.student, decay, warm, context.at),
}
"""Teachers by name; the first entry of a spec."""

WRAPPERS: dict[str, Callable[..., Teacher]] = {
    "noisy": lambda context, teacher, sigma=0.5, share=0.5: noisy(teacher, sigma, share),
    "tta": _tta,
    "sharpened": lambda context, teacher, temperature=0.5: sharpened(teacher, temperature),
}
"""Wrappers of a teacher by name; the further entries of a spec, from the inside out."""


def teacher(named: Named, context: TeacherContext) -> Teacher | None:
    """Build a teacher from names and settings: one of `BASES`, then any of `WRAPPERS`; None without names.

    A plug-in of the kind `teachers` is a function of the context, for a wrapper also of the teacher, and of settings.

    Raises:
        ValueError: an unknown name or setting, a setting out of its range, or an unknown feature path.
    """
    wrapped: Teacher | None = None
    for name, given in named.items():
        table = BASES if wrapped is None else WRAPPERS
        part = resolve("teachers", name, table, context.plugins, "teacher")
        settings = checked(f"teacher.{name}", part, given or {}, 1 if wrapped is None else 2)
        wrapped = part(context, **settings) if wrapped is None else part(context, wrapped, **settings)
    return wrapped
