"""sha256 of values, streams and files, in hexadecimal."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO

_PIECE = 1 << 20


def digest(value: Any) -> str:
    """sha256 of a JSON-able value; mappings are the same in any order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def stream_digest(stream: BinaryIO) -> str:
    """sha256 of the rest of a stream, read in pieces."""
    total = hashlib.sha256()
    while piece := stream.read(_PIECE):
        total.update(piece)
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file.

    Raises:
        ValueError: it can not be read.
    """
    try:
        with path.open("rb") as stream:
            return stream_digest(stream)
    except OSError as error:
        raise ValueError(f"{path}: can not be read: {error.strerror}") from error
