"""Files by name under one root, in a folder or on any pyarrow file system; readers see a whole file or none.

On a disk a file is written beside its place, synced and renamed; an object store shows an object when its upload is
complete, and needs no rename.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.fs as pafs

from raystill.platform.files.redaction import SECRET, redacted

MOST_BYTES = 4 << 30
"""Bytes of the largest file that is read; a foreign file must not fill the memory."""


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes | Callable[[BinaryIO], Any]) -> None:
    """Write a file that readers see whole or not at all, also after a power cut and beside other writers.

    Args:
        path: the file; missing folders above it are created.
        content: its bytes, or a function that writes them to a stream.

    Raises:
        OSError: the folder can not be created or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # a file of tempfile is readable by its owner alone, and a cache is shared
    name = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with name.open("wb") as stream:
            if isinstance(content, bytes):
                stream.write(content)
            else:
                content(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:  # an interrupt too leaves no litter
        with suppress(OSError):
            name.unlink()
        raise
    sync(path.parent)


def read_whole(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a file.

    Raises:
        ValueError: missing, or larger than `most` bytes.
    """
    try:
        if (size := path.stat().st_size) > most:
            raise ValueError(f"{path}: {size} bytes; at most {most} are read")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: can not be read: {error.strerror or error}") from error


def is_remote(place: str | Path) -> bool:
    """Whether a place is a URI rather than a path."""
    return "://" in str(place)


def plain(name: str) -> str:
    """Check that a relative name, `a/b`, stays below the folder or bucket that it is joined to, and return it.

    Raises:
        ValueError: it is empty or absolute, has an empty part, `.` or `..`, or one of the characters backslash, #, %, :
            and NUL, which URIs and file systems read in ways of their own.
    """
    parts = name.split("/")
    if not name or any(part in {"", ".", ".."} for part in parts) or set(name) & set("\\#%:\0"):
        raise ValueError(f"{name!r} is not a plain name inside a folder")
    return name


class Storage:
    """One root.

    Attributes:
        root: the path or URI as it was given.
    """

    def __init__(self, root: str | Path) -> None:
        """Open a root; no file or folder is created.

        Raises:
            ValueError: a URI that pyarrow has no file system for, or one with credentials, which a spec would store.
        """
        self.root = str(root)
        self._remote: Any = None
        if is_remote(root):
            if redacted(self.root) != self.root or SECRET.search(self.root.partition("?")[2]):
                scheme = self.root.partition("://")[0]
                raise ValueError(
                    f"storage: {scheme}://... has credentials in it; give them by the environment "
                    "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, say), since a run's URI is written down"
                )
            try:
                self._remote, self._base = pafs.FileSystem.from_uri(self.root)
            except (ValueError, OSError) as error:
                shown = self.root.split("?")[0]  # the query may hold a key
                text = " ".join(str(error).replace(self.root, shown).split())
                raise ValueError(f"storage: {shown} can not be opened: {text}") from None
        else:
            self._base = str(Path(root).absolute())

    def under(self, name: str) -> Storage:
        """The storage of a folder inside this one."""
        if self._remote is None:
            return Storage(Path(self._base) / plain(name))
        inner = object.__new__(Storage)
        head, mark, query = self.root.partition("?")
        inner.root = f"{head.rstrip('/')}/{plain(name)}{mark}{query}"
        inner._remote, inner._base = self._remote, f"{self._base}/{name}"
        return inner

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole.

        Raises:
            OSError: it can not be written.
        """
        if self._remote is None:
            write_whole(Path(self._base) / plain(name), data)
        else:
            with self._remote.open_output_stream(f"{self._base}/{plain(name)}") as stream:
                stream.write(data)

    def read(self, name: str, most: int = MOST_BYTES) -> bytes:
        """A file's content.

        Raises:
            OSError: it is missing, or can not be read.
            ValueError: it is larger than `most` bytes, or (on a disk) a link that leads out of the root.
        """
        where = f"{self._base}/{plain(name)}"
        if self._remote is None:
            path = Path(where)
            if not path.resolve().is_relative_to(Path(self._base).resolve()):
                raise ValueError(f"{where} leads out of its folder")
            size = path.stat().st_size
        else:
            info = self._remote.get_file_info(where)
            if info.type != pafs.FileType.File:
                raise FileNotFoundError(f"{where} is not there")
            size = info.size
        if size > most:
            raise ValueError(f"{where} has {size} bytes, more than the {most} that are read")
        if self._remote is None:
            return path.read_bytes()
        with self._remote.open_input_file(where) as stream:
            return bytes(stream.read())

    def _infos(self, deep: bool) -> list[Any]:
        system = self._remote or pafs.LocalFileSystem()
        return list(system.get_file_info(pafs.FileSelector(self._base, recursive=deep, allow_not_found=True)))

    def folders(self) -> list[str]:
        """Names of the folders directly in the root."""
        return sorted(i.base_name for i in self._infos(False) if i.type == pafs.FileType.Directory)

    def files(self) -> dict[str, int]:
        """Names of all files below the root, with their sizes in bytes."""
        start = len(self._base.rstrip("/")) + 1
        return {i.path[start:]: i.size for i in self._infos(True) if i.type == pafs.FileType.File}

    def remove(self, name: str) -> None:
        """Remove a folder with its content; without one, do nothing."""
        system = self._remote or pafs.LocalFileSystem()
        with suppress(FileNotFoundError):
            system.delete_dir(f"{self._base}/{plain(name)}")
