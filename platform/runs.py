"""The run folder: where everything about a run lies, and how it is made and found again.

spec.yaml  checkpoints/  commits/  history.parquet  artefact/  assessment.json  report.html
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import yaml
from pydantic import ValidationError

from raystill.platform.spec import DistillSpec


def writable(out: Path) -> None:
    """Raises ValueError unless run folders can be made in `out`; makes nothing."""
    near = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
        raise ValueError(f"run.out: {out} can not be written; name a folder that can")


def create(spec: DistillSpec, artefact: str = "run") -> Path:
    """Make a new run folder and write the resolved spec into it.

    Raises:
        ValueError: the folder exists, or its parent can not be written.
    """
    out = spec.run.out
    stem = spec.run.name or spec.recipe or artefact
    writable(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if spec.run.name is not None:
            folder = out / spec.run.name
            folder.mkdir()
        else:
            folder = _numbered(out, stem)
        (folder / "spec.yaml").write_text(dump(spec))
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


def driver(folder: Path) -> str | None:
    """Who goes on with a run: the name in its file `driver`, an entry point of `raystill.drivers`; None distils."""
    path = folder / "driver"
    return path.read_text().strip() if path.is_file() else None


def dump(spec: DistillSpec) -> str:
    """A spec as the YAML that makes it again."""
    return str(yaml.safe_dump(spec.dump(), sort_keys=False))


def load(folder: Path) -> DistillSpec:
    """The resolved spec of a run.

    Raises:
        ValueError: not a run folder, or its spec is torn or foreign.
    """
    path = folder / "spec.yaml"
    if not path.is_file():
        near = sorted(p.parent.name for p in folder.parent.glob("*/spec.yaml")) if folder.parent.is_dir() else []
        here = f"; runs beside it: {', '.join(near)}" if near else ""
        raise ValueError(f"{folder} is not a run: it has no spec.yaml{here}")
    try:
        return DistillSpec.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} can not be read: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{path} is not a spec: {wrong}") from None
