"""Checkpoints: immutable step folders with a manifest of hashes, written last, and a LATEST pointer that is replaced.

checkpoints/step-00000050.0/{arrays.safetensors, facts.json, manifest.json}   checkpoints/LATEST

A folder is trusted only if its manifest verifies, so a writer may die anywhere; the one before it then serves.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from raystill.actors.messages import Arrays
from raystill.platform.storage import Storage

KEEP = 3
ARRAYS, FACTS, MANIFEST, LATEST = "arrays.safetensors", "facts.json", "manifest.json", "LATEST"
_MOST_JSON = 16 << 20


class Corrupt(ValueError):
    """A checkpoint that must not be loaded, and why."""


def _facts_of(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def write(storage: Storage, groups: dict[str, Arrays], facts: dict[str, Any], keep: int = KEEP) -> str:
    """Write a step folder, then point LATEST at it, then drop all but the last few.

    Args:
        storage: the run's `checkpoints`.
        groups: named sets of named arrays.
        facts: JSON-able; `step` names the folder, and so does `attempt` after a rollback, so that what was rolled back
            lies before it; `spec` (a digest) says whose it is.
        keep: folders that stay.

    Returns:
        The folder's name.

    Raises:
        OSError: something can not be written; what was there stays good.
    """
    attempt = facts.get("attempt", 0)
    stem = "step-" + (f"a{attempt}-" if attempt else "") + f"{facts['step']:08d}"
    taken = [int(n.rpartition(".")[2]) for n in _names(storage) if n.startswith(f"{stem}.")]
    name = f"{stem}.{max(taken, default=-1) + 1}"
    flat = {
        f"{group}/{key}": np.ascontiguousarray(array)
        for group, arrays in groups.items()
        for key, array in arrays.items()
    }
    files = {ARRAYS: save(flat), FACTS: json.dumps(facts).encode()}
    for file, data in files.items():
        storage.write(f"{name}/{file}", data)
    storage.write(f"{name}/{MANIFEST}", json.dumps({k: _facts_of(v) for k, v in files.items()}).encode())
    storage.write(LATEST, name.encode())
    for old in _names(storage)[:-keep]:
        storage.remove(old)
    return name


def _names(storage: Storage) -> list[str]:
    """Step folders, the oldest first."""
    found = [n for n in storage.folders() if n.startswith("step-") and n.rpartition(".")[2].isdigit()]
    return sorted(found, key=lambda n: (n.rpartition(".")[0], int(n.rpartition(".")[2])))


def read(storage: Storage, name: str, spec: str | None = None) -> tuple[dict[str, Arrays], dict[str, Any]]:
    """A step folder's groups and facts, after its hashes were checked.

    Args:
        spec: digest of the spec that the checkpoint must belong to; None takes any.

    Raises:
        Corrupt: a file is missing, torn, altered, too large, or another run's.
    """
    where = f"checkpoint {storage.root.split('?')[0]}/{name}"
    try:
        manifest = json.loads(storage.read(f"{name}/{MANIFEST}", _MOST_JSON))
        files = {}
        for file in (ARRAYS, FACTS):
            files[file] = storage.read(f"{name}/{file}", int(manifest[file]["bytes"]))
            if _facts_of(files[file]) != manifest[file]:
                raise Corrupt(f"{where}/{file} does not match its manifest: torn or altered")
        facts = json.loads(files[FACTS])
        flat = load(files[ARRAYS])
    except Corrupt:
        raise
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Corrupt(f"{where} can not be read: {error}") from error
    if spec is not None and facts.get("spec") != spec:
        raise Corrupt(f"{where} belongs to a run with another spec")
    groups: dict[str, Arrays] = {}
    for key, array in flat.items():
        group, _, rest = key.partition("/")
        groups.setdefault(group, {})[rest] = array
    return groups, facts


def newest(storage: Storage, spec: str | None = None) -> str | None:
    """The newest step folder that verifies: LATEST's, else any before it; None where there is none."""
    names = _names(storage)[::-1]
    try:
        latest = storage.read(LATEST, 1000).decode(errors="replace").strip()
    except (OSError, ValueError):
        latest = ""
    if latest in names:
        names = [latest, *(n for n in names if n != latest)]
    for name in names:
        try:
            read(storage, name, spec)
        except Corrupt:
            continue
        return name
    return None
