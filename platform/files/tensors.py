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
from torch import Tensor

from raystill.platform.files.storage import write_whole

MOST_BYTES = 4 << 30
_HEADER = "raystill"


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
    # one entry: safetensors writes several in no order of their own, and the same network is to be the same bytes
    header = {_HEADER: json.dumps({"facts": told, "sha256": _digest(plain, told)})}
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
            header = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: can not be read: {' '.join(str(error).split())[:200]}") from error
    if not {"facts", "sha256"} <= header.keys():
        raise ValueError(f"{path}: is no file of raystill's: its header has no facts")
    if _digest(tensors, header["facts"]) != header["sha256"]:
        raise ValueError(f"{path}: sha256 does not match its header; the file was changed or torn")
    return tensors, json.loads(header["facts"])
