"""The Arrow cache: a source decoded once, opened again without copying.

One Arrow IPC file per content and decoding options; a record batch per split with columns `image` (fixed-shape tensor,
uint8 [C, H, W]; of texts `tokens`, int32 [L]) and `label` (int64). The schema's metadata carries the sha256 of the
decoded data, which is checked at each opening: a torn, foreign or corrupt file is built again, never loaded.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from raystill.platform.data import Split
from raystill.platform.data.content import content_of
from raystill.platform.data.sources.decode import Progress, decode, integer_labels
from raystill.platform.data.sources.raw import Raw, Stored, portion
from raystill.platform.data.text import Encoded, encode
from raystill.platform.files.digests import digest
from raystill.platform.files.storage import write_whole

_FORMAT = 1  # raise it when decoding or the file's layout changes
_HEADER = b"raystill"
_SPLITS = ("train", "validation", "test")
_WAIT = 600.0  # seconds to let another process build the same file


@dataclass(frozen=True)
class Decoded:
    """A source as it is kept.

    Attributes:
        splits: `train` and what else the source has; arrays are read-only views of the memory-mapped file.
        classes: class names in label order.
        content: sha256 hex of all of it.
        words: of texts, the vocabulary by id.
        truncated: of texts, how many were cut, by split.
    """

    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    content: str
    words: tuple[str, ...] = ()
    truncated: Mapping[str, int] = field(default_factory=dict)


def decoded(
    found: Raw | Stored, size: int | None, cache: Path, progress: Progress | None = None, length: int | None = None,
    vocabulary: int = 20000, known: Sequence[str] = (),
) -> Decoded:  # fmt: skip
    """A source's examples and labels from the cache, put there first where it lacks them.

    `known` are words from elsewhere; see `text.encode`.

    Raises:
        ValueError: what `build` raises, or a cache folder that is needed and cannot be written.
    """
    told = [_FORMAT, content_of(found, cache), size, length, vocabulary, *([list(known)] if known else [])]
    path = cache / f"{digest(told)}.arrow"
    kept = opened(path)
    if kept is not None:
        return kept
    with _turn(path):
        kept = opened(path)  # another process may have built it meanwhile
        if kept is None:
            raw = found.read() if isinstance(found, Stored) else found
            built = build(raw, size, progress, length, vocabulary, known)
            with _written(path):
                write_whole(path, lambda stream: _write(built, stream))
            kept = opened(path)
    if kept is None:
        raise ValueError(f"data.cache: {path} does not read back as it was written; is the disk sound?")
    return kept


def build(
    raw: Raw, size: int | None, progress: Progress | None = None, length: int | None = None, vocabulary: int = 20000,
    known: Sequence[str] = (),
) -> Decoded:  # fmt: skip
    """Decode and check a source.

    Raises:
        ValueError: no train split, unknown splits, bad labels, images or texts, or a setting of the other kind.
    """
    unknown = sorted(set(raw.splits) - set(_SPLITS))
    if unknown or "train" not in raw.splits:
        raise ValueError(
            f"data.source: splits are {', '.join(raw.splits)}; expected train, validation and test of them"
        )
    portions = {split: portion(raw.splits[split]) for split in _SPLITS if split in raw.splits}
    named = None if raw.classes is None else len(raw.classes)
    y = {split: integer_labels(portion, named) for split, portion in portions.items()}
    texts = bool(len(portions["train"].images)) and isinstance(portions["train"].images[0], str)
    if texts and size is not None:
        raise ValueError(f"data.size: {size} is for images, and this source gives texts; see data.length")
    if not texts and length is not None:
        raise ValueError(f"data.length: {length} is for texts, and this source gives images; see data.size")
    if texts:
        encoded = encode(portions, length, vocabulary, known)
    else:
        encoded = Encoded(decode(portions, size, progress), (), {})
    x = encoded.ids
    count = named if named is not None else 1 + max(int(labels.max()) for labels in y.values())
    classes = tuple(map(str, range(count) if raw.classes is None else raw.classes))
    splits = {split: Split(x[split], y[split]) for split in portions}
    content = _content(splits, classes, encoded.words)
    return Decoded(splits, classes, content, encoded.words, encoded.truncated)


def opened(path: Path) -> Decoded | None:
    """What a cache file holds, or none where it is missing, torn, foreign or corrupt."""
    try:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            header = json.loads(reader.schema.metadata[_HEADER])
            names, classes, content = header["splits"], tuple(header["classes"]), header["content"]
            batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
            splits = {name: _split(batch) for name, batch in zip(names, batches, strict=True)}
            words, truncated = tuple(header.get("words", ())), header.get("truncated", {})
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None
    whole = _content(splits, classes, words) == content
    return Decoded(splits, classes, content, words, truncated) if whole else None


def _write(built: Decoded, stream: BinaryIO) -> None:
    x = built.splits["train"].x
    shape = x.shape[1:]
    tensor = pa.fixed_shape_tensor(pa.from_numpy_dtype(x.dtype), shape)
    header: dict[str, Any] = {"splits": list(built.splits), "classes": built.classes, "content": built.content}
    header |= {"words": built.words, "truncated": built.truncated} if built.words else {}
    fields = [pa.field("tokens" if built.words else "image", tensor), pa.field("label", pa.int64())]
    schema = pa.schema(fields, metadata={_HEADER: json.dumps(header)})
    with pa.ipc.new_file(stream, schema) as writer:
        for split in built.splits.values():
            images = pa.FixedSizeListArray.from_arrays(pa.array(split.x.reshape(-1)), math.prod(shape))
            columns = [pa.ExtensionArray.from_storage(tensor, images), pa.array(split.y)]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _split(batch: pa.RecordBatch) -> Split:
    # views of the map, through its buffers: numpy keeps them alive, and to_numpy() would import pandas
    tensor = batch.schema.field(0).type
    shape = batch.num_rows, *tensor.shape
    kind = tensor.value_type.to_pandas_dtype()
    examples = np.frombuffer(batch.column(0).storage.buffers()[-1], kind, math.prod(shape))
    labels = np.frombuffer(batch.column("label").buffers()[-1], np.int64, batch.num_rows)
    return Split(examples.reshape(shape), labels)


def _content(splits: Mapping[str, Split], classes: tuple[str, ...], words: tuple[str, ...] = ()) -> str:
    # of the decoded data, not of the file: the same on every version of Arrow
    told = [list(classes), {name: list(split.x.shape) for name, split in splits.items()}, *([words] if words else [])]
    total = hashlib.sha256(digest(told).encode())
    for split in splits.values():
        total.update(np.ascontiguousarray(split.x).data)
        total.update(np.ascontiguousarray(split.y).data)
    return total.hexdigest()


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    # one process decodes while others wait for its file; the kernel frees the lock of a process that dies, and past the
    # deadline each builds its own, which is wasteful but harmless as files are replaced whole
    deadline = time.monotonic() + _WAIT
    with _written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("wb")
    with lock:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break  # a file system without locks
        yield


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"data.cache: cannot write in {path.parent}: {error.strerror or error}; set data.cache or "
            "RAYSTILL_CACHE to a folder that can be written"
        ) from error
