"""Checkpoints: step folders, which are written once, with a part for each shard; and LATEST, which names the newest.

checkpoints/step-00000050.3/part-0.safetensors   checkpoints/LATEST

The shard that sees all parts after it wrote its own points LATEST at the folder, so shards do not wait for each other.
A folder counts only if all its parts verify and hold the same facts, so a writer may die anywhere; the folder before it
then serves.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import Any

from raystill.actors.messages import Arrays
from raystill.platform.files import arrays
from raystill.platform.files.storage import Storage, is_remote
from raystill.platform.outer.blocks import Cut
from raystill.platform.spec import DonorSpec

KEEP = 3
PART, LATEST = "part-{}.safetensors", "LATEST"
MOST_BYTES = 64 << 30
"""The largest part that is read."""


class Corrupt(ValueError):
    """A checkpoint that must not be loaded, and why."""


class Foreign(Corrupt):
    """A whole checkpoint of a run with another spec."""


def name_of(step: int, number: int) -> str:
    """The name of a step's folder; a higher number is newer, also where a rollback made the step smaller."""
    return f"step-{step:08d}.{number}"


def file_of(name: str, part: int) -> str:
    """The file of a part."""
    return f"{name}/{PART.format(part)}"


def last_number(storage: Storage) -> int:
    """The highest number of a folder, complete or not; -1 where there is none."""
    return max((int(name.rpartition(".")[2]) for name in _names(storage)), default=-1)


def write(
    storage: Storage,
    name: str,
    groups: dict[str, Arrays],
    facts: dict[str, Any],
    cut: Cut,
    part: int = 0,
    keep: int = KEEP,
) -> None:
    """Write a part of a step folder; if that completes it, point LATEST at it and remove old folders.

    Args:
        storage: the run's `checkpoints`.
        name: from `name_of`, never used before.
        groups: named sets of named arrays, each of them this part of the whole arrays that `cut` describes.
        facts: JSON values, the same for each part; `spec`, a digest, names the run's spec.
        cut: how the arrays are cut into parts.
        part: number of this part.
        keep: number of folders that stay.

    Raises:
        OSError: something can not be written; earlier checkpoints stay valid.
    """
    flat = {f"{group}/{key}": array for group, members in groups.items() for key, array in members.items()}
    header = {"shapes": cut.shapes, "shards": cut.shards, **facts}
    storage.write(file_of(name, part), arrays.pack(flat, header))
    if cut.shards > 1 and not {PART.format(k) for k in range(cut.shards)} <= set(storage.under(name).files()):
        return
    storage.write(LATEST, name.encode())
    names = _names(storage)
    for old in names[: max(0, names.index(name) + 1 - keep)]:  # later ones may be half written
        with suppress(OSError):  # two shards may both be last, and remove the same
            storage.remove(old)


def _names(storage: Storage) -> list[str]:
    """Step folders, the oldest first."""
    steps = [name for name in storage.folders() if name.startswith("step-") and name.rpartition(".")[2].isdigit()]
    return sorted(steps, key=lambda name: int(name.rpartition(".")[2]))


def read(storage: Storage, name: str, spec: str | None = None) -> tuple[dict[str, Arrays], dict[str, Any]]:
    """The groups, of whole arrays, and the facts of a step folder, after its hashes were checked.

    Args:
        spec: digest of the spec that the checkpoint must belong to; None takes any.

    Raises:
        Corrupt: a file is missing, torn, altered, too large, or belongs to another run.
    """
    where = f"checkpoint {storage.root.split('?')[0]}/{name}"
    try:
        parts = [_read_part(storage, name, where, 0)]
        facts = parts[0][1]
        cut = Cut(tuple((key, tuple(shape)) for key, shape in facts["shapes"]), facts["shards"])
        parts += [_read_part(storage, name, where, part) for part in range(1, cut.shards)]
        if any(other != facts for _, other in parts):
            raise Corrupt(f"{where} has parts of several checkpoints")
        groups = {group: cut.join([part.get(group, {}) for part, _ in parts]) for group in parts[0][0]}
    except Corrupt:
        raise
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Corrupt(f"{where} can not be read: {error}") from error
    if spec is not None and facts.get("spec") != spec:
        raise Foreign(f"{where} belongs to a run with another spec")
    return groups, facts


def _read_part(storage: Storage, name: str, where: str, part: int) -> tuple[dict[str, Arrays], dict[str, Any]]:
    flat, facts = arrays.unpack(storage.read(file_of(name, part), MOST_BYTES), PART.format(part))
    groups: dict[str, Arrays] = {}
    for key, array in flat.items():
        group, _, rest = key.partition("/")
        groups.setdefault(group, {})[rest] = array
    return groups, facts


def newest(storage: Storage, spec: str | None = None) -> str | None:
    """The newest step folder that verifies: LATEST's, else the newest other one; None where there is none.

    Args:
        spec: digest of the spec that it must belong to; None takes any.

    Raises:
        ValueError: there are whole ones, all of runs with another spec.
    """
    names = _names(storage)[::-1]
    try:
        latest = storage.read(LATEST, 1000).decode(errors="replace").strip()
    except (OSError, ValueError):
        latest = ""
    if latest in names:
        names = [latest, *(n for n in names if n != latest)]
    foreign: list[str] = []
    for name in names:
        try:
            read(storage, name, spec)
        except Foreign:
            foreign.append(name)
        except Corrupt:
            continue
        else:
            return name
    if foreign:
        raise ValueError(
            f"{storage.root.split('?')[0]}: holds checkpoints of a run with another spec (the newest is {foreign[0]}) "
            "and none of this one; go on with that spec, or take another folder"
        )
    return None


def locate(place: str) -> tuple[Storage, str]:
    """The storage and the name of a checkpoint that is given as one path or URI.

    Raises:
        ValueError: it is neither.
    """
    head, mark, query = place.partition("?") if is_remote(place) else (place, "", "")
    root, _, name = head.rstrip("/").rpartition("/")
    if not root or not name:
        raise ValueError(
            f"donor.checkpoint: {place!r} is no checkpoint; name one as in RUN/checkpoints/step-00000050.3"
        )
    return Storage(root + mark + query), name


def digest(groups: dict[str, Arrays], facts: dict[str, Any]) -> str:
    """sha256 of everything that the rest of a run depends on: equal states have equal digests, wherever written."""
    state = {key: facts.get(key) for key in ("step", "attempt", "norm", "asked", "unscored", "anchors", "best")}
    sha256 = hashlib.sha256(json.dumps(state, sort_keys=True).encode())
    for group, name, array in sorted((g, n, a) for g, members in groups.items() for n, a in members.items()):
        sha256.update(f"{group}/{name} {array.dtype} {array.shape}\n".encode())
        sha256.update(array.tobytes())
    return sha256.hexdigest()


def load_donor(donor: DonorSpec) -> tuple[dict[str, Arrays], dict[str, Any]]:
    """The groups and facts of a donor's checkpoint.

    Raises:
        Corrupt: it is missing, incomplete, or not the one that the spec was planned with.
    """
    assert donor.checkpoint is not None
    groups, facts = read(*locate(donor.checkpoint))
    if donor.content is not None and digest(groups, facts) != donor.content:
        raise Corrupt(f"donor.checkpoint: {donor.checkpoint} holds another state than this run was planned with")
    return groups, facts


def adopt(storage: Storage, donor: DonorSpec, spec: str, number: int) -> str:
    """Write a donor's state as the first checkpoint of a run; its name.

    Args:
        storage: the run's `checkpoints`.
        spec: digest of the run's own spec.
        number: of the checkpoint, never used before.

    Raises:
        Corrupt: as `load_donor`.
    """
    groups, facts = load_donor(donor)
    own = {k: v for k, v in facts.items() if k not in ("shapes", "shards")}
    name = name_of(int(facts["step"]), number)
    write(storage, name, groups, {**own, "spec": spec, "cpu_seconds": 0.0, "tracking": None}, Cut.of(groups["meta"], 1))
    return name
