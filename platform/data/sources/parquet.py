"""`parquet:PATH`: Parquet in the conventions of Hugging Face `datasets`, local or in an object store.

Images are `struct<bytes, path>` (or plain binary), texts strings, labels integers. The start of a file's name
gives its split; class names come from the `huggingface` schema metadata where there is any.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from raystill.platform.data.sources.raw import File, Image, Portion, Raw, Stored, split_of
from raystill.platform.spec import DataSpec


def is_dataset(folder: Path) -> bool:
    """Whether a local folder has Parquet files, directly or in `data`, as repositories of the Hugging Face hub do."""
    return any(next(folder.glob(pattern), None) for pattern in ("*.parquet", "data/*.parquet"))


def source(path: str, spec: DataSpec) -> Stored:
    """The Parquet files of a folder, a file or a pattern; local, or a URI such as s3://bucket/folder.

    Raises:
        ValueError: no files, files of an unknown split, or missing columns.
    """
    try:
        system, files = _listing(path)
        schema = pq.read_schema(files[0].path, filesystem=system) if files else None
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"data.source: cannot read {path}: {error}") from error
    if schema is None:
        raise ValueError(f"data.source: no Parquet files at {path}")
    splits = _by_split(files)
    role = "text" if spec.image_column not in schema.names and spec.text_column in schema.names else "image"
    columns = {role: getattr(spec, f"{role}_column"), "label": spec.label_column}
    _demand(columns, schema, files[0])

    def read() -> Raw:
        return Raw(
            {split: _portion(system, part, columns) for split, part in splits.items()},
            _class_names(schema, spec.label_column),
        )

    return Stored(read, files, {"columns": list(columns.values())})


def _listing(path: str) -> tuple[pafs.FileSystem, list[File]]:
    if "://" in path:
        system, inner = pafs.FileSystem.from_uri(path)
    else:
        system, inner = pafs.LocalFileSystem(), Path(path).expanduser().absolute().as_posix()
    inner = inner.rstrip("/")
    folder, pattern = inner, "*"
    kind = system.get_file_info(inner).type
    if kind == pafs.FileType.File:
        return system, [_file(system, system.get_file_info(inner), inner.rpartition("/")[0])]
    if kind == pafs.FileType.NotFound and (special := [inner.find(c) for c in "*?[" if c in inner]):
        folder, pattern = inner[: min(special)].rpartition("/")[0], inner
    infos = system.get_file_info(pafs.FileSelector(folder, recursive=True, allow_not_found=True))
    return system, [
        _file(system, info, folder)
        for info in sorted(infos, key=lambda info: info.path)
        if info.type == pafs.FileType.File and info.path.endswith(".parquet") and fnmatch(info.path, pattern)
    ]


def _file(system: pafs.FileSystem, info: pafs.FileInfo, folder: str) -> File:
    name = info.path[len(folder) :].lstrip("/")
    return File(name, info.path, info.size, info.mtime_ns or 0, partial(system.open_input_stream, info.path))


def _by_split(files: Sequence[File]) -> dict[str, list[File]]:
    split_by_file = {file: split_of(Path(file.name).name) or split_of(Path(file.name).parent.name) for file in files}
    if not any(split_by_file.values()):
        return {"train": list(files)}
    splits: dict[str, list[File]] = {}
    for file, split in split_by_file.items():
        if split is None:
            raise ValueError(
                f"data.source: {file.path} belongs to no split; its name should start with train, validation or test"
            )
        splits.setdefault(split, []).append(file)
    if "train" not in splits:
        raise ValueError(f"data.source: {', '.join(splits)} but no train among {', '.join(f.name for f in files[:5])}")
    return splits


def _demand(columns: Mapping[str, str], schema: pa.Schema, file: File) -> None:
    for role, column in columns.items():
        if column not in schema.names:
            raise ValueError(
                f"data.{role}_column: no column {column!r} in {file.path}; it has {', '.join(schema.names)}"
            )


def _portion(system: pafs.FileSystem, files: Sequence[File], columns: Mapping[str, str]) -> Portion:
    (role, image), (_, label) = columns.items()
    images: list[Image] = []
    labels: list[Any] = []
    ends: list[int] = []

    def place(row: int) -> str:
        at = bisect_right(ends, row)
        return f"{files[at].path} row {row - ([0, *ends][at])}"

    for file in files:
        try:
            _demand(columns, pq.read_schema(file.path, filesystem=system), file)
            table = pq.read_table(file.path, columns=sorted({image, label}), filesystem=system)
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"data.source: cannot read columns {image}, {label} of {file.path}: {error}") from error
        if not pa.types.is_integer(table[label].type):
            raise ValueError(f"data.label_column: {label!r} in {file.path} is {table[label].type}, expected integers")
        images += _READ[role](table[image], image, file)
        labels += table[label].to_pylist()
        ends.append(len(labels))
    for row, value in enumerate(labels):
        if value is None:
            raise ValueError(f"data.label_column: no label in {place(row)}")
    for row, item in enumerate(images):
        if item is None:
            what = "bytes of an image" if role == "image" else "text"
            raise ValueError(f"data.{role}_column: no {what} in {place(row)}")
    return Portion(images, labels, place)


def _encoded(column: pa.ChunkedArray, name: str, file: File) -> list[Any]:
    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return column.to_pylist()
    fields = {kind.field(i).name for i in range(kind.num_fields)} if pa.types.is_struct(kind) else set()
    if "bytes" not in fields:
        raise ValueError(
            f"data.image_column: {name!r} in {file.path} is {kind}, expected struct<bytes: binary, path: string> "
            "or binary"
        )
    # a path without bytes is refused: the cache would not notice a change of that image
    return [image for chunk in column.chunks for image in chunk.field("bytes").to_pylist()]


def _texts(column: pa.ChunkedArray, name: str, file: File) -> list[Any]:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise ValueError(f"data.text_column: {name!r} in {file.path} is {column.type}, expected string")
    return column.to_pylist()


_READ = {"image": _encoded, "text": _texts}


def _class_names(schema: pa.Schema, label: str) -> list[str] | None:
    text = (schema.metadata or {}).get(b"huggingface")
    try:
        names = json.loads(text)["info"]["features"][label]["names"] if text else None
    except (json.JSONDecodeError, KeyError, TypeError):
        return None  # a plain integer label has no names
    return [str(name) for name in names] if isinstance(names, list) else None
