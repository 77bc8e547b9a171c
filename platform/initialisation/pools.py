"""Pools of pre-trained networks: folders that `raystill pretrain` writes.

    spec.yaml                   the spec of the pool
    train/0000.safetensors ...  one network a file: `theta0`, float32 [P], as `Learner.init` orders it
    validation/ test/           held-out networks, for the choice of the best data and for its assessment
    pool.json                   the manifest: learner and data, and size, sha256 and accuracy of each file; written last

Each file is written when its network is trained, so a run can resume; the manifest completes the pool. The same
spec gives the same bytes. Nothing is pickled, and the size of a file is checked before it is read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from raystill.platform.data import DataSet
from raystill.platform.files import arrays
from raystill.platform.files.storage import Storage, plain
from raystill.platform.spec import LearnerSpec, PretrainSpec

FORMAT = "raystill.pool/1"
MANIFEST, SPEC = "pool.json", "spec.yaml"
PARTS = ("train", "validation", "test")
MAX_MANIFEST = 64 << 20
ARCHITECTURE = ("name", "width", "depth")


def file_of(part: str, member: int) -> str:
    """The file of a network, relative to the pool's folder."""
    return f"{part}/{member:04d}.safetensors"


def packed(theta: np.ndarray, identity: str, accuracy: float) -> bytes:
    """A network as the bytes of its file.

    Args:
        theta: float32 [P].
        identity: digest of the pool's spec; a resumed run ignores files with another one.
        accuracy: on the source's validation split, 0 to 1.
    """
    return arrays.pack({"theta0": np.asarray(theta, np.float32)}, {"identity": identity, "accuracy": accuracy})


def facts_of(data: bytes, identity: str) -> dict[str, Any] | None:
    """The manifest's row of a network's file: bytes, sha256, accuracy; None where the file is not of this spec."""
    try:
        parts, facts = arrays.unpack(data, "a network")
        finite, accuracy = np.isfinite(parts["theta0"]).all(), float(facts["accuracy"])
    except (ValueError, KeyError, TypeError):
        return None
    if facts.get("identity") != identity or not finite:
        return None
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "accuracy": accuracy}


def manifest(spec: PretrainSpec, data: DataSet, size: int, parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """The bytes of `pool.json`.

    Args:
        spec: of the pool.
        data: that the networks were trained on.
        size: parameters of a network.
        parts: part -> rows of `facts_of`, one for each network.
    """
    about = {
        "format": FORMAT, "learner": spec.learner.model_dump(), "parameters": size, "shape": list(data.shape),
        "classes": list(data.classes), "source": {"name": data.name, "fingerprint": data.fingerprint},
        "normalisation": {"mean": list(data.mean), "std": list(data.std)},
        "training": {"epochs": spec.epochs, "lr": spec.lr, "seed": spec.run.seed}, "parts": parts,
    }  # fmt: skip
    return (json.dumps(about, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


@dataclass(frozen=True)
class Pool:
    """An opened pool; a network is read, and its sha256 checked, by `theta`.

    Attributes:
        path: the folder.
        about: the manifest.
        content: sha256 hex of the manifest, which has the sha256 of every file.
    """

    path: Path
    about: dict[str, Any]
    content: str

    @cached_property
    def _storage(self) -> Storage:
        return Storage(self.path)

    def count(self, part: str) -> int:
        """The number of networks of `train`, `validation` or `test`."""
        return len(self.about["parts"][part])

    def accuracy(self, part: str) -> np.ndarray:
        """Accuracy of each network on the validation split of its own data, 0 to 1."""
        return np.array([row["accuracy"] for row in self.about["parts"][part]])

    def theta(self, part: str, member: int) -> np.ndarray:
        """One network's weights, float32 [P].

        Raises:
            ValueError: its file is missing, torn or changed.
        """
        row, name = self.about["parts"][part][member], file_of(part, member)
        try:
            data = self._storage.read(name, int(row["bytes"]))
            if hashlib.sha256(data).hexdigest() != row["sha256"]:
                raise ValueError("sha256 does not match the manifest; the file was changed or torn")
            theta = arrays.unpack(data, name)[0]["theta0"]
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"{self.path / name}: {' '.join(str(error).split())}") from None
        if theta.shape != (self.about["parameters"],) or theta.dtype != np.float32 or not np.isfinite(theta).all():
            raise ValueError(f"{self.path / name}: is not {self.about['parameters']} finite float32 weights")
        return theta

    def need(self, learner: LearnerSpec, size: int, data: DataSet) -> None:
        """Check that the networks fit a run.

        Args:
            learner: section of the run's spec.
            size: number of its parameters.
            data: of the run.

        Raises:
            ValueError: they have another architecture, image shape, classes or size.
        """
        trained, field = self.about["learner"], f"initialisation.path: the pool {self.path} has"
        theirs = {k: trained.get(k) for k in ARCHITECTURE}
        ours = {k: getattr(learner, k) for k in ARCHITECTURE}
        if theirs != ours:
            raise ValueError(f"{field} networks {_words(theirs)}, but the run's learner is {_words(ours)}")
        if tuple(self.about["shape"]) != data.shape:
            raise ValueError(
                f"{field} networks for images of {_by(self.about['shape'])}, these are {_by(data.shape)}; set data.size"
            )
        if not same_classes(self.about["classes"], data.classes):
            raise ValueError(
                f"{field} networks for the classes {_some(self.about['classes'])}, the data has {_some(data.classes)}"
            )
        if self.about["parameters"] != size:
            raise ValueError(f"{field} networks of {self.about['parameters']} weights, the learner has {size}")


def same_classes(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether two lists of classes are the same; the numbers 0, 1, ... of a source without names match any names."""
    if len(a) != len(b):
        return False
    numbers = [str(k) for k in range(len(a))]
    return list(a) == list(b) or numbers in (list(a), list(b))


def open_pool(path: Path) -> Pool:
    """Open the pool in a folder.

    Raises:
        ValueError: there is none, it is not finished, or its manifest is torn or foreign.
    """
    file = path / MANIFEST
    if not file.is_file():
        started = (path / SPEC).is_file()
        advice = f"go on with it: raystill resume {path}" if started else "make one: raystill pretrain"
        raise ValueError(f"initialisation.path: {path} is no {'finished ' if started else ''}pool; {advice}")
    try:
        if file.stat().st_size > MAX_MANIFEST:
            raise ValueError(f"has more than {MAX_MANIFEST} bytes")
        data = file.read_bytes()
        about = json.loads(data)
        if about.get("format") != FORMAT:
            raise ValueError(f"format is {str(about.get('format'))[:60]!r}, this version of raystill reads {FORMAT!r}")
        valid = all(
            isinstance(row["bytes"], int) and isinstance(row["sha256"], str) and 0 <= row["accuracy"] <= 1
            for part in PARTS for row in about["parts"][part]
        )  # fmt: skip
        if not valid or not isinstance(about["parameters"], int) or not isinstance(about["learner"], dict):
            raise ValueError("its parts are not files")
        if not all(isinstance(about[key], list) for key in ("shape", "classes")):
            raise ValueError("shape and classes are not lists")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"initialisation.path: {file} is malformed: {' '.join(str(error).split())[:200]}") from None
    return Pool(path, about, hashlib.sha256(data).hexdigest())


def weights_of(path: Path, names: Mapping[str, tuple[int, ...]]) -> tuple[np.ndarray, str]:
    """Read a network's weights from a safetensors file with `theta0` [P], or with a state dict of the learner.

    Args:
        names: parameter name -> shape, in the learner's order.

    Returns:
        float32 [P], and sha256 hex of the file.

    Raises:
        ValueError: there is no such file, or it does not fit the learner.
    """
    field = f"initialisation.path: {path}"
    try:
        data = Storage(path.parent).read(plain(path.name))
        state = safetensors.numpy.load(data)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{field} is no safetensors file: {' '.join(str(error).split())[:200]}") from None
    size = sum(int(np.prod(shape)) for shape in names.values())
    if set(state) == {"theta0"}:
        parts = [state["theta0"]]
    else:
        if missing := [n for n, shape in names.items() if n not in state or state[n].shape != shape]:
            raise ValueError(f"{field} has no {missing[0]} of shape {names[missing[0]]}, which the learner needs")
        parts = [state[n] for n in names]
    theta = np.concatenate([np.asarray(p, np.float32).ravel() for p in parts])
    if theta.shape != (size,) or not np.isfinite(theta).all():
        raise ValueError(f"{field} has {theta.size} weights, the learner needs {size} finite ones")
    return theta, hashlib.sha256(data).hexdigest()


def absolute(path: Path) -> Path:
    """The absolute path, the same in every process of this machine."""
    return Path(os.path.abspath(path.expanduser()))


def _words(learner: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in learner.items() if v is not None)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _some(classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:4])
    return f"{shown}, ... ({len(classes)})" if len(classes) > 4 else shown
