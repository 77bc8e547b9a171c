"""What a source gives: images or texts as they come, labels, and where each image lies.

A source is a function of `DataSpec`. A user's own returns a `Raw`; one that reads files returns `Stored`, so that a
warm cache is found from the files alone and nothing is read twice.
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

# how Hugging Face `datasets` names the splits of files and folders
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
        place: from a row to where that image lies, for error messages.
    """

    images: np.ndarray | Sequence[Image]
    labels: Any
    place: Callable[[int], str] = "row {}".format


@dataclass(frozen=True)
class Raw:
    """What a source gives.

    Attributes:
        splits: `train` and, where the source has them, `validation` and `test`; plain (images, labels) pairs will do,
            and so will anything that numpy makes an array of.
        classes: class names in label order; none numbers them.
        modality: name of what its examples are; none is `text` where the first is a string, else `image`.
    """

    splits: Mapping[str, Portion | tuple[Any, Any]]
    classes: Sequence[str] | None = None
    modality: str | None = None


class File(NamedTuple):
    """One file that a source is read from.

    Attributes:
        name: path inside the source: part of what the content is known by.
        path: where it lies; with size and time it says whether the file is still the one that was hashed.
        open: a readable binary stream of it.
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
        read: reads it.
        files: every file that `read` depends on.
        options: whatever else it depends on, JSON-able.
    """

    read: Callable[[], Raw]
    files: Sequence[File] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def portion(given: Portion | tuple[Any, Any]) -> Portion:
    """What a source gave for one split, with the types that `Portion` promises."""
    images, labels, *place = given
    if not isinstance(images, np.ndarray | list | tuple):
        images = np.asarray(images)
    return Portion(images, np.asarray(labels), *place)


def local_file(path: Path, base: Path) -> File:
    """A `File` of this machine, named by its path under `base`."""
    stat = path.stat()
    name = path.relative_to(base).as_posix()
    return File(name, str(path.absolute()), stat.st_size, stat.st_mtime_ns, lambda: path.open("rb"))


def split_of(name: str) -> str | None:
    """The split that a file or folder name starts with (`train-00000.parquet`, `valid`), or none."""
    for split, keywords in _KEYWORDS.items():
        if re.match(rf"({keywords})([^a-z]|$)", name.lower()):
            return split
    return None
