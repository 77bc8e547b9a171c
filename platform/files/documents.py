"""JSON documents: results, notes and settings that a person may read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from raystill.platform.files.storage import read_whole, write_whole

MOST_BYTES = 64 << 20


def encode(value: Any) -> bytes:
    """A JSON-able value as the bytes of a document."""
    return (json.dumps(value, indent=1) + "\n").encode()


def decode(data: bytes, place: str | Path) -> Any:
    """The value of a document.

    Args:
        data: its bytes.
        place: where they come from, for the error.

    Raises:
        ValueError: no JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: malformed: {' '.join(str(error).split())[:200]}") from error


def write(path: Path, value: Any) -> None:
    """Write a JSON-able value, whole or not at all.

    Raises:
        OSError: it can not be written.
    """
    write_whole(path, encode(value))


def read(path: Path) -> Any:
    """The value of a document.

    Raises:
        ValueError: missing, too large, or no JSON.
    """
    return decode(read_whole(path, MOST_BYTES), path)
