"""Tensors by name in one safetensors file that proves itself: facts and their sha256 are in its header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from raystill.platform import learners
from raystill.platform.registry import Plugins
from raystill.platform.seeds import fixed_global
from raystill.platform.spec import LearnerSpec
from raystill.platform.storage import write_whole

NETWORK = "raystill.network/1"
MOST_BYTES = 4 << 30


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    total = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        value = tensors[name]
        total.update(f"{name} {value.dtype} {list(value.shape)} ".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a file, whole or not at all.

    Args:
        facts: JSON-able.

    Raises:
        ValueError: it can not be written.
    """
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    told = json.dumps(facts, sort_keys=True)
    header = {"facts": told, "sha256": _digest(plain, told)}
    try:
        write_whole(path, lambda stream: stream.write(save(plain, header)))
    except OSError as error:
        raise ValueError(f"{path}: can not be written: {error.strerror or error}") from error


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write` wrote.

    Raises:
        ValueError: missing, torn, altered or foreign.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path}: more than {MOST_BYTES} bytes")
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: can not be read: {' '.join(str(error).split())[:200]}") from error
    if not {"facts", "sha256"} <= header.keys():
        raise ValueError(f"{path}: is no file of raystill's: its header has no facts")
    if _digest(tensors, header["facts"]) != header["sha256"]:
        raise ValueError(f"{path}: sha256 does not match its header; the file was changed or torn")
    return tensors, json.loads(header["facts"])


def save_network(
    path: Path, module: nn.Module, learner: LearnerSpec, shape: tuple[int, int, int], outputs: int, **about: Any
) -> None:
    """Write a network with all that is needed to build it again.

    Args:
        shape: of its inputs, (C, H, W).
        outputs: classes, or the width of embeddings.
        about: JSON-able facts beside: data, normalisation, accuracy.

    Raises:
        ValueError: it can not be written.
    """
    facts = {"format": NETWORK, "learner": learner.model_dump(mode="json"), "shape": shape, "outputs": outputs}
    write(path, dict(module.state_dict()), {**about, **facts})


def load_network(path: Path, plugins: Plugins | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """A network, in evaluation mode, and the facts that were written with it.

    Raises:
        ValueError: missing, torn, altered, foreign, or not of this version's networks.
    """
    tensors, facts = read(path)
    if facts.get("format") != NETWORK:
        raise ValueError(f"{path}: holds no network; its format is {str(facts.get('format'))[:60]!r}")
    try:
        spec = LearnerSpec.model_validate(facts["learner"])
        c, h, w = facts["shape"]
        make = learners.resolve(spec.name, plugins)
        with fixed_global():
            module = make((c, h, w), facts["outputs"], spec.width, spec.depth)
        module.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: does not fit its network: {' '.join(str(error).split())[:200]}") from error
    return module.eval(), facts
