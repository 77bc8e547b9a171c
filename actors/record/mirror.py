"""A run's copy in its storage, so that results do not stay on a machine that may go; and the way back home."""

from __future__ import annotations

from pathlib import Path

from raystill.platform.files.storage import Storage, plain

_OWN = (".lock", "checkpoints")  # the folder's own: the lock is a process's, checkpoints are in the storage already


class Mirror:
    """Pushes what is new or changed in a run folder; a storage that fails costs nothing but the copy's age."""

    def __init__(self, folder: Path, storage: Storage | None) -> None:
        self._folder, self._storage = folder, storage
        self._sent: dict[str, tuple[int, int]] = {}

    def push(self) -> str:
        """Copy what the storage lacks; returns what went wrong, or nothing."""
        if self._storage is None:
            return ""
        for path in sorted(p for p in self._folder.rglob("*") if p.is_file()):
            name = path.relative_to(self._folder).as_posix()
            if name.partition("/")[0] in _OWN or path.name.startswith("."):
                continue
            state = (path.stat().st_size, path.stat().st_mtime_ns)
            if self._sent.get(name) == state:
                continue
            try:
                self._storage.write(name, path.read_bytes())
            except OSError as error:
                return f"{name} can not be copied to the storage: {error}"
            self._sent[name] = state
        return ""


def pull(storage: Storage, folder: Path) -> list[str]:
    """Bring a run home; files that are there already with the same size and content stay.

    Returns:
        Names of the files that were written.

    Raises:
        ValueError: the storage holds no such run, or a file's name leads out of the folder.
        OSError: something can not be read or written.
    """
    files = storage.files()
    if "spec.yaml" not in files:
        raise ValueError(f"{storage.root.split('?')[0]} holds no run: it has no spec.yaml")
    home, written = Storage(folder), []
    for name in sorted(files):
        if plain(name).partition("/")[0] == ".lock":
            continue
        data = storage.read(name)
        if (folder / name).is_file() and (folder / name).read_bytes() == data:
            continue
        home.write(name, data)
        written.append(name)
    return written
