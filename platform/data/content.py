"""The sha256 of a source's content.

A file is not hashed again while its path, size and modification time stay the same: the cache folder has a small file
of hashes for each listing of files.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from raystill.platform.data.sources.raw import File, Raw, Stored, portion
from raystill.platform.files.digests import digest, stream_digest
from raystill.platform.files.storage import write_whole

_SETTLED_NS = 2_000_000_000  # a younger file may change again without a change of its modification time


def content_of(source: Raw | Stored, cache: Path) -> str:
    """sha256 hex of a source: its files and options, or its arrays."""
    if isinstance(source, Raw):
        return _raw_digest(source)
    listing = digest([(file.path, file.size, file.mtime_ns) for file in source.files])
    note = cache / "seen" / f"{listing}.json"
    sums = _noted(note)
    if sums is None or len(sums) != len(source.files):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            sums = list(pool.map(_file_digest, source.files))
        settled = time.time_ns() - _SETTLED_NS
        if source.files and all(0 < file.mtime_ns < settled for file in source.files):
            with suppress(OSError):  # an unwritable cache only costs hashing again
                write_whole(note, json.dumps(sums).encode())
    return digest([dict(source.options), [file.name for file in source.files], sums])


def _noted(note: Path) -> list[str] | None:
    try:
        sums = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return None
    return sums if isinstance(sums, list) else None


def _file_digest(file: File) -> str:
    try:
        with file.open() as stream:
            return stream_digest(stream)
    except OSError as error:
        raise ValueError(f"data.source: cannot read {file.path}: {error}") from error


def _raw_digest(raw: Raw) -> str:
    total = hashlib.sha256(digest(None if raw.classes is None else list(map(str, raw.classes))).encode())
    for split, given in sorted(raw.splits.items()):
        images, labels, _ = portion(given)
        total.update(f"{split} {len(labels)} {labels.dtype}".encode())
        total.update(labels.tobytes())
        for part in _parts(images):
            total.update(f" {len(part)} ".encode())
            total.update(part)
    return total.hexdigest()


def _parts(images: Any) -> Sequence[Any]:
    if isinstance(images, np.ndarray):
        return [str((images.shape, images.dtype)).encode(), np.ascontiguousarray(images).tobytes()]
    return [part for image in images for part in (_parts(image) if isinstance(image, np.ndarray) else [_bytes(image)])]


def _bytes(image: bytes | Path | str) -> bytes:
    if isinstance(image, str):
        return image.encode()
    try:
        return image.read_bytes() if isinstance(image, Path) else image
    except OSError as error:
        raise ValueError(f"data.source: cannot read {image!s}: {error.strerror}") from error
