"""The folder of a run: made once, known by its `spec.yaml`, held by one process at a time.

`spec.yaml` holds the resolved spec, and under `command` the command that made the folder. What lies beside it is the
command's: checkpoints/, commits/, history.parquet, artefact/, assessment.json, report.html of a distillation.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from raystill.platform.spec import DistillSpec, RunSpec

Spec = TypeVar("Spec", bound=BaseModel)
SPEC = "spec.yaml"
MAKERS: dict[str, str] = {
    "pretrain": "raystill.actors.pretrain",
    "kd": "raystill.platform.command_line.kd",
    "search temperature": "raystill.search.temperature.command",
    "search nas": "raystill.search.nas.command",
    "search tune": "raystill.search.tune.command",
    "search card": "raystill.search.card.command",
}
"""Commands beside `distill` that make folders, and the module with their `resume(folder, workers)`; it may have
`write_report(folder)`, and `replay(folder)`, which computes a run's figures again and returns an exit code."""


def writable(out: Path) -> None:
    """Raises ValueError unless run folders can be made in `out`; makes nothing."""
    near = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
        raise ValueError(f"run.out: {out} can not be written; name a folder that can")


def create(spec: BaseModel, command: str = "distill", stem: str = "run") -> Path:
    """Make a new folder and write the resolved spec into it.

    Args:
        spec: with a section `run`, whose `out` and `name` say where the folder is to lie.
        command: the command that makes it.
        stem: of its name, before a number, where the spec names neither the run nor a recipe.

    Raises:
        ValueError: the folder exists, or its parent can not be written.
    """
    run: RunSpec = spec.run  # type: ignore[attr-defined]
    out, stem = run.out, run.name or getattr(spec, "recipe", None) or stem
    writable(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if run.name is not None:
            folder = out / run.name
            folder.mkdir()
        else:
            folder = _numbered(out, stem)
        (folder / SPEC).write_text(dump(spec, command))
    except FileExistsError:
        raise ValueError(
            f"run.name: {out / stem} exists; take another name, or go on with it: raystill resume {out / stem}"
        ) from None
    except OSError as error:
        raise ValueError(f"run.out: {out} can not be written: {error.strerror or error}") from None
    return folder


def _numbered(out: Path, stem: str) -> Path:
    """The first free `stem-N`; mkdir decides, so two starts at once get two folders."""
    taken = [int(m[1]) for p in out.iterdir() if (m := re.fullmatch(re.escape(stem) + r"-(\d+)", p.name))]
    number = max(taken, default=0)
    while True:
        number += 1
        folder = out / f"{stem}-{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process.

    Raises:
        ValueError: another process on this machine holds it.
    """
    with (folder / ".lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            who = stream.read().strip()
            raise ValueError(
                f"{folder} is being worked on by another process ({who or 'unknown'}); wait for it, or stop it first"
            ) from None
        stream.truncate(0)
        stream.write(f"pid {os.getpid()}")
        stream.flush()
        yield


def dump(spec: BaseModel, command: str = "distill") -> str:
    """The YAML that `raystill COMMAND --config` makes the spec of again."""
    return str(yaml.safe_dump({"command": command, **spec.model_dump(mode="json")}, sort_keys=False))


def made_by(folder: Path) -> str:
    """The command that made a folder: `distill`, or one of `MAKERS`.

    Raises:
        ValueError: not a run folder, or its spec is torn or names no command.
    """
    command = _read(folder).get("command")
    if command != "distill" and command not in MAKERS:
        raise ValueError(f"{folder / SPEC}: command: {command!r} makes no runs; valid: distill, {', '.join(MAKERS)}")
    return str(command)


def load(folder: Path) -> DistillSpec:
    """The resolved spec of a distillation.

    Raises:
        ValueError: not a run folder, or its spec is torn or another command's.
    """
    return load_as(DistillSpec, folder)


def load_as(model: type[Spec], folder: Path) -> Spec:
    """The resolved spec of a command's run.

    Raises:
        ValueError: not a run folder, or its spec is torn or another command's.
    """
    fields = _read(folder)
    fields.pop("command", None)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{folder / SPEC} is not a spec: {wrong}") from None


def _read(folder: Path) -> dict[str, Any]:
    path = folder / SPEC
    if not path.is_file():
        near = sorted(p.parent.name for p in folder.parent.glob(f"*/{SPEC}")) if folder.parent.is_dir() else []
        here = f"; runs beside it: {', '.join(near)}" if near else ""
        raise ValueError(f"{folder} is not a run: it has no {SPEC}{here}")
    try:
        fields = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} can not be read: {' '.join(str(error).split())}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{path} is not a spec: it holds no mapping of sections")
    return fields
