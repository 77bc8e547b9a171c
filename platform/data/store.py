"""The Arrow cache: a source is decoded once and memory-mapped afterwards.

One Arrow IPC file per content and decoding options; a record batch per split, with a column of examples (fixed-shape
tensors, named by their modality) and `label` (int64). The schema's metadata has the sha256 of the decoded data, which
is checked at each opening: a torn, foreign or corrupt file is built again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from raystill.platform.data import Split
from raystill.platform.data.content import content_of
from raystill.platform.data.modality import IMAGE, TEXT, Modality, Request, modality
from raystill.platform.data.sources.decode import integer_labels
from raystill.platform.data.sources.raw import Raw, Stored, portion
from raystill.platform.files.digests import digest
from raystill.platform.files.storage import write_whole
from raystill.platform.registry import Plugins

_FORMAT = 1  # increase it when decoding or the file's layout changes
_HEADER = b"raystill"
_SPLITS = ("train", "validation", "test")
_WAIT = 600.0  # seconds to wait while another process builds the same file


@dataclass(frozen=True)
class Decoded:
    """A decoded source.

    Attributes:
        splits: `train`, and `validation` and `test` where the source has them; read-only views of the mapped file.
        classes: class names in label order.
        content: sha256 hex of splits, classes and vocabulary.
        modality: of its examples.
        vocabulary: the word of each stored id; empty where examples are not ids.
        truncated: how many examples were shortened, by split.
    """

    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    content: str
    modality: Modality = IMAGE
    vocabulary: tuple[str, ...] = ()
    truncated: Mapping[str, int] = field(default_factory=dict)


def decoded(source: Raw | Stored, request: Request, cache: Path, plugins: Plugins | None = None) -> Decoded:
    """Read a decoded source from the cache; decode and write it first where the cache lacks it.

    Args:
        source: arrays, or files to read.
        request: settings of the decoding.
        cache: the cache folder.
        plugins: the caller's own modalities.

    Raises:
        ValueError: as `build`, or the cache folder cannot be written.
    """
    spec, known = request.spec, request.known
    words = [list(known)] if known else []
    key = [_FORMAT, content_of(source, cache), spec.size, spec.length, spec.vocabulary, *words]
    path = cache / f"{digest(key)}.arrow"
    stored = opened(path, plugins)
    if stored is not None:
        return stored
    with _turn(path):
        stored = opened(path, plugins)  # another process may have built it meanwhile
        if stored is None:
            built = build(source.read() if isinstance(source, Stored) else source, request, plugins)
            with _written(path):
                write_whole(path, lambda stream: _write(built, stream))
            stored = opened(path, plugins)
    if stored is None:
        raise ValueError(f"data.cache: {path} does not read back as it was written; is the disk sound?")
    return stored


def build(raw: Raw, request: Request, plugins: Plugins | None = None) -> Decoded:
    """Decode and check a source.

    Raises:
        ValueError: no train split, unknown splits, bad labels, an unknown modality, or examples that it refuses.
    """
    unknown = sorted(set(raw.splits) - set(_SPLITS))
    if unknown or "train" not in raw.splits:
        raise ValueError(
            f"data.source: splits are {', '.join(raw.splits)}; expected train, validation and test of them"
        )
    portions = {split: portion(raw.splits[split]) for split in _SPLITS if split in raw.splits}
    declared = None if raw.classes is None else len(raw.classes)
    y = {split: integer_labels(portion, declared) for split, portion in portions.items()}
    kind = _modality(raw, portions["train"].images, plugins)
    encoded = kind.decode(portions, request)
    count = declared if declared is not None else 1 + max(int(labels.max()) for labels in y.values())
    classes = tuple(map(str, range(count) if raw.classes is None else raw.classes))
    splits = {split: Split(encoded.x[split], y[split], kind) for split in portions}
    content = _content(splits, classes, encoded.vocabulary)
    return Decoded(splits, classes, content, kind, encoded.vocabulary, encoded.truncated)


def _modality(raw: Raw, examples: Any, plugins: Plugins | None) -> Modality:
    if raw.modality is not None:
        return modality(raw.modality, plugins)
    return TEXT if len(examples) and isinstance(examples[0], str) else IMAGE


def opened(path: Path, plugins: Plugins | None = None) -> Decoded | None:
    """Open a cache file; None where it is missing, torn, foreign or corrupt."""
    try:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            header = json.loads(reader.schema.metadata[_HEADER])
            names, classes, content = header["splits"], tuple(header["classes"]), header["content"]
            kind = modality(header["modality"], plugins)
            batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
            splits = {name: _split(batch, kind) for name, batch in zip(names, batches, strict=True)}
            vocabulary, truncated = tuple(header["vocabulary"]), header["truncated"]
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None
    whole = _content(splits, classes, vocabulary) == content
    return Decoded(splits, classes, content, kind, vocabulary, truncated) if whole else None


def _write(built: Decoded, stream: BinaryIO) -> None:
    x = built.splits["train"].x
    shape = x.shape[1:]
    tensor = pa.fixed_shape_tensor(pa.from_numpy_dtype(x.dtype), shape)
    header = {
        "splits": list(built.splits), "classes": built.classes, "content": built.content,
        "modality": built.modality.name, "vocabulary": built.vocabulary, "truncated": dict(built.truncated),
    }  # fmt: skip
    fields = [pa.field(built.modality.name, tensor), pa.field("label", pa.int64())]
    schema = pa.schema(fields, metadata={_HEADER: json.dumps(header)})
    with pa.ipc.new_file(stream, schema) as writer:
        for split in built.splits.values():
            examples = pa.FixedSizeListArray.from_arrays(pa.array(split.x.reshape(-1)), math.prod(shape))
            columns = [pa.ExtensionArray.from_storage(tensor, examples), pa.array(split.y)]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _split(batch: pa.RecordBatch, kind: Modality) -> Split:
    # views of the map, through its buffers: numpy keeps them alive, and to_numpy() would import pandas
    tensor = batch.schema.field(0).type
    shape = batch.num_rows, *tensor.shape
    dtype = tensor.value_type.to_pandas_dtype()
    examples = np.frombuffer(batch.column(0).storage.buffers()[-1], dtype, math.prod(shape))
    labels = np.frombuffer(batch.column("label").buffers()[-1], np.int64, batch.num_rows)
    return Split(examples.reshape(shape), labels, kind)


def _content(splits: Mapping[str, Split], classes: tuple[str, ...], vocabulary: tuple[str, ...] = ()) -> str:
    # of the decoded data, not of the file, whose bytes depend on the version of Arrow
    shapes = {name: list(split.x.shape) for name, split in splits.items()}
    total = hashlib.sha256(digest([list(classes), shapes, *([vocabulary] if vocabulary else [])]).encode())
    for split in splits.values():
        total.update(np.ascontiguousarray(split.x).data)
        total.update(np.ascontiguousarray(split.y).data)
    return total.hexdigest()


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    # One process decodes while others wait for its file. The kernel frees the lock of a process that dies. After the
    # deadline each process builds the file itself, which is harmless: files are replaced whole.
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
