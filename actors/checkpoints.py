"""Checkpoints: immutable step folders with a manifest of hashes, and a LATEST pointer that is replaced last.

checkpoints/step-00000050/{arrays.safetensors, facts.json, manifest.json}   checkpoints/LATEST
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from raystill.actors.messages import Arrays

KEEP = 3
_FILES = ("arrays.safetensors", "facts.json")


class Corrupt(ValueError):
    """A checkpoint that must not be loaded, and why."""


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def _digest(path: Path) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}


def write(root: str | Path, groups: dict[str, Arrays], facts: dict[str, Any]) -> Path:
    """Write a step folder, then point LATEST at it, then drop all but the last few.

    Args:
        root: the run's `checkpoints` folder.
        groups: named sets of named arrays.
        facts: JSON-able; `step` names the folder.
    """
    root = Path(root)
    target = root / f"step-{facts['step']:08d}"
    building = root / f".{target.name}.{os.getpid()}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    flat = {
        f"{group}/{name}": np.ascontiguousarray(a) for group, arrays in groups.items() for name, a in arrays.items()
    }
    save_file(flat, building / "arrays.safetensors")
    (building / "facts.json").write_text(json.dumps(facts))
    (building / "manifest.json").write_text(json.dumps({name: _digest(building / name) for name in _FILES}))
    for name in (*_FILES, "manifest.json"):
        _sync(building / name)
    if target.exists():  # the same step after a resume: the same meta-parameters
        shutil.rmtree(target)
    building.rename(target)
    _sync(root)
    _replace(root / "LATEST", target.name)
    for old in sorted(root.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old)
    return target


def read(folder: str | Path) -> tuple[dict[str, Arrays], dict[str, Any]]:
    """A step folder's groups and facts, after its hashes were checked.

    Raises:
        Corrupt: a file is missing, torn, altered or foreign.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        for name in _FILES:
            if _digest(folder / name) != manifest[name]:
                raise Corrupt(f"checkpoint {folder / name} does not match its manifest: torn or altered")
        facts = json.loads((folder / "facts.json").read_text())
        flat = load_file(folder / "arrays.safetensors")
    except Corrupt:
        raise
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"checkpoint {folder} can not be read: {error}") from error
    groups: dict[str, Arrays] = {}
    for name, array in flat.items():
        group, _, key = name.partition("/")
        groups.setdefault(group, {})[key] = array
    return groups, facts


def newest(root: str | Path) -> Path | None:
    """The newest step folder that verifies: LATEST's, else any before it; None where there is none."""
    root = Path(root)
    names = sorted((p.name for p in root.glob("step-*")), reverse=True)
    pointer = root / "LATEST"
    if pointer.exists() and (latest := pointer.read_text(errors="replace").strip()) in names:
        names = [latest, *(n for n in names if n != latest)]
    for name in names:
        try:
            read(root / name)
        except Corrupt:
            continue
        return root / name
    return None
