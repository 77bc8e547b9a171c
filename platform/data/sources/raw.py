"""The return types of a source: undecoded images or texts, labels, and the place of each example.

A source is a function of `DataSpec`. It returns a `Raw`, or, where it reads files, a `Stored`: the cache entry is
looked up from the list of files, and they are read only where it is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

# an encoded image (PNG, JPEG, ...), its file, or pixels uint8 [H, W] or [H, W, C]; or a text
Image = bytes | Path | np.ndarray | str

# split names of files and folders, as Hugging Face `datasets` recognises them
_KEYWORDS = {
    "train": "train|training",
    "validation": "validation|valid|val|dev",
    "test": "test|testing|eval|evaluation",
}


class Portion(NamedTuple):
    """One split of a source.

    Attributes:
        images: uint8 array [N, H, W], [N, H, W, C] or [N, C, H, W] (C 1 or 3; channels last wins where both fit), or N
            single ones: encoded bytes, files, or arrays; or N texts as strings.
        labels: N integers, 0..K-1.
        place: row -> file and row of that example, for error messages.
    """

    images: np.ndarray | Sequence[Image]
    labels: Any
    place: Callable[[int], str] = "row {}".format


@dataclass(frozen=True)
class Raw:
    """A source in memory.

    Attributes:
        splits: `train` and, where the source has them, `validation` and `test`; (images, labels) pairs, as arrays or
            anything that numpy converts, are accepted too.
        classes: class names in label order; None numbers them.
        modality: name of the modality; None is `text` where the first example is a string, else `image`.
    """

    splits: Mapping[str, Portion | tuple[Any, Any]]
    classes: Sequence[str] | None = None
    modality: str | None = None


class File(NamedTuple):
    """One file that a source is read from.

    Attributes:
        name: path inside the source; part of the content hash.
        path: full path; with size and mtime_ns it tells whether the file changed since it was hashed.
        open: opens a readable binary stream.
    """

    name: str
    path: str
    size: int
    mtime_ns: int
    open: Callable[[], BinaryIO]


@dataclass(frozen=True)
class Stored:
    """A source that is read only when the cache lacks it.

    Attributes:
        read: reads the source.
        files: every file that `read` depends on.
        options: everything else that `read` depends on, JSON-able.
    """

    read: Callable[[], Raw]
    files: Sequence[File] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def portion(given: Portion | tuple[Any, Any]) -> Portion:
    """Convert one split of a source to a `Portion`."""
    images, labels, *place = given
    if not isinstance(images, np.ndarray | list | tuple):
        images = np.asarray(images)
    return Portion(images, np.asarray(labels), *place)


def local_file(path: Path, base: Path) -> File:
    """A local `File`, named by its path under `base`."""
    stat = path.stat()
    name = path.relative_to(base).as_posix()
    return File(name, str(path.absolute()), stat.st_size, stat.st_mtime_ns, lambda: path.open("rb"))


def split_of(name: str) -> str | None:
    """The split that a file or folder name starts with (`train-00000.parquet`, `valid`), or None."""
    for split, keywords in _KEYWORDS.items():
        if re.match(rf"({keywords})([^a-z]|$)", name.lower()):
            return split
    return None
