"""The run folder: where everything about a run lies, and how it is made and found again.

spec.yaml  checkpoints/  commits/  history.parquet  artefact/  assessment.json  report.html
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from raystill.platform.spec import DistillSpec, RunSpec

Spec = TypeVar("Spec", bound=BaseModel)
OTHERS: dict[str, str] = {
    "kd": "raystill.platform.command_line.kd",
    "search temperature": "raystill.search.temperature.command",
    "search nas": "raystill.search.nas.run",
    "search tune": "raystill.search.tune.run",
    "search card": "raystill.search.card.run",
}
"""Commands beside `distill` that make runs, and the module with their `resume(folder, workers)` and
`write_report(folder)`, and where a run's figures can be computed again `replay(folder)`, with its exit status."""
MAKER = "command"
"""File of a run folder that names the command that made it, where its spec is a distillation's."""


class Saved(Protocol):
    """A spec that a run folder is made for."""

    @property
    def recipe(self) -> str | None:
        """The named recipe that it started from."""

    @property
    def run(self) -> Any:
        """Where it is to lie: `out` and `name`."""

    def dump(self) -> dict[str, Any]:
        """The form in which it is saved."""


def writable(out: Path) -> None:
    """Raises ValueError unless run folders can be made in `out`; makes nothing."""
    near = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
        raise ValueError(f"run.out: {out} can not be written; name a folder that can")


def create(spec: Saved, artefact: str = "run") -> Path:
    """Make a new run folder and write the resolved spec into it.

    Raises:
        ValueError: the folder exists, or its parent can not be written.
    """
    return begin(spec.run, spec.recipe or artefact, "spec.yaml", dump(spec))


def begin(run: RunSpec, stem: str, file: str, text: str) -> Path:
    """Make a new folder for what a command computes, and write its spec into it.

    Raises:
        ValueError: the folder exists, or its parent can not be written.
    """
    out, stem = run.out, run.name or stem
    writable(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if run.name is not None:
            folder = out / run.name
            folder.mkdir()
        else:
            folder = _numbered(out, stem)
        (folder / file).write_text(text)
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


def dump(spec: Saved) -> str:
    """A spec as the YAML that makes it again."""
    return str(yaml.safe_dump(spec.dump(), sort_keys=False))


def made_by(folder: Path) -> str:
    """The command that made a run: `distill`, or one of `OTHERS`.

    Raises:
        ValueError: not a run folder, or its spec is torn.
    """
    if (folder / MAKER).is_file():
        return (folder / MAKER).read_text().strip()
    found = _read(folder)
    return str(found.get("command", "distill")) if isinstance(found, dict) else "distill"


def load(folder: Path) -> DistillSpec:
    """The resolved spec of a distillation.

    Raises:
        ValueError: not a run folder, or its spec is torn or foreign.
    """
    return load_as(DistillSpec, folder)


def load_as(model: type[Spec], folder: Path) -> Spec:
    """The resolved spec of a run of some command.

    Raises:
        ValueError: not a run folder, or its spec is torn or foreign.
    """
    path, found = folder / "spec.yaml", _read(folder)
    try:
        return model.model_validate(found)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{path} is not a spec: {wrong}") from None


def _read(folder: Path) -> Any:
    path = folder / "spec.yaml"
    if not path.is_file():
        near = sorted(p.parent.name for p in folder.parent.glob("*/spec.yaml")) if folder.parent.is_dir() else []
        here = f"; runs beside it: {', '.join(near)}" if near else ""
        raise ValueError(f"{folder} is not a run: it has no spec.yaml{here}")
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} can not be read: {' '.join(str(error).split())}") from None
