"""Arrays by name, with facts about them, in one safetensors file: its header holds the facts and a sha256 of all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from raystill.platform.files.storage import read_whole, write_whole

_HEADER = "raystill"


def _digest(arrays: Mapping[str, np.ndarray], facts: str) -> str:
    total = hashlib.sha256(facts.encode())
    for name in sorted(arrays):
        value = arrays[name]
        total.update(f"{name} {value.dtype} {list(value.shape)} ".encode())
        total.update(value.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def pack(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> bytes:
    """The bytes of a file; the same arrays and facts give the same bytes.

    Args:
        arrays: of any shape and any dtype that safetensors has.
        facts: JSON-able.
    """
    whole = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    text = json.dumps(facts, sort_keys=True)
    # one entry: safetensors writes several in no order of their own
    return bytes(save(whole, {_HEADER: json.dumps({"facts": text, "sha256": _digest(whole, text)})}))


def unpack(data: bytes, place: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and facts that `pack` was given.

    Args:
        data: the file's bytes.
        place: where they come from, for the error.

    Raises:
        ValueError: torn, altered or foreign.
    """
    try:
        start = int.from_bytes(data[:8], "little") + 8
        header = json.loads(json.loads(data[8:start]).get("__metadata__", {}).get(_HEADER, "{}"))
        arrays = load(data)
    except (SafetensorError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{place}: can not be read: {' '.join(str(error).split())[:200]}") from error
    if not {"facts", "sha256"} <= header.keys():
        raise ValueError(f"{place}: is no file of raystill's: its header has no facts")
    if _digest(arrays, header["facts"]) != header["sha256"]:
        raise ValueError(f"{place}: sha256 does not match its header; the file was changed or torn")
    return arrays, json.loads(header["facts"])


def write(path: Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write a file, whole or not at all.

    Args:
        arrays: of any shape and any dtype that safetensors has.
        facts: JSON-able.

    Raises:
        ValueError: it can not be written.
    """
    try:
        write_whole(path, pack(arrays, facts))
    except OSError as error:
        raise ValueError(f"{path}: can not be written: {error.strerror or error}") from error


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and facts that `write` was given.

    Raises:
        ValueError: missing, too large, torn, altered or foreign.
    """
    return unpack(read_whole(path), path)
