"""What the files of a run hold, as digests of their parts."""

from __future__ import annotations

import fnmatch
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.golden.cases import Tree

UNREAD = ("checkpoints/*", ".lock", "*/.lock", "epoch.json", "status.json", "spec.yaml", "search.yaml", "pretrain.yaml",
          "command", "report.html", "tune/*", "trials/*", "*.log")  # fmt: skip
"""Files that say how and when a run was made, not what came out."""
VOLATILE = re.compile(r"seconds$|per_second$|^time|^created$|^hardware$|^versions?$|^path$|^spec$|^files$|^bytes$"
                      r"|^sha256$|^trial$|^format$|^pid$|^identity$|^content$"
                      r"|^(training|evaluation|cpu)/\d+$")  # fmt: skip
SETTINGS = {"learner", "initialisation", "settings", "spec", "data"}
"""Names under which a result repeats its settings; these are left out where they are mappings."""
NO_BYTES = ("*.json", "*.arrows", "*history.parquet", "*ledger.parquet", "retrained/*", "network.safetensors")
"""Files whose bytes hold times."""


def digest(data: bytes) -> str:
    """The first half of a sha256."""
    return hashlib.sha256(data).hexdigest()[:32]


def plain(value: Any) -> Any:
    """A value without what differs between two runs that are the same; bytes as digests, maps as lists of pairs."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()
                if not VOLATILE.search(str(k)) and not (k in SETTINGS and isinstance(v, dict))}  # fmt: skip
    if isinstance(value, (list, tuple)):
        pairs = [v for v in value if isinstance(v, tuple) and len(v) == 2 and VOLATILE.search(str(v[0]))]
        return [plain(v) for v in value if v not in pairs] if pairs else [plain(v) for v in value]
    return digest(value) if isinstance(value, bytes) else value


def text_of(value: Any) -> str:
    """Canonical text of a value; a digest where that is long."""
    text = json.dumps(plain(value), sort_keys=True, default=str)
    return text if len(text) <= 300 else f"json {digest(text.encode())}"


def array(value: Any) -> str:
    """An array's dtype, shape and digest."""
    value = value.copy(order="C")
    return f"{value.dtype} {list(value.shape)} {digest(value.tobytes())}"


def of_json(data: bytes) -> dict[str, str]:
    """Each entry, and each named row of a list of rows."""
    whole, entries = plain(yaml.safe_load(data) if data[:1] not in b"{[" else json.loads(data)), {}
    for key, value in whole.items() if isinstance(whole, dict) else [("", whole)]:
        rows = value if isinstance(value, list) and value and isinstance(value[0], dict) else None
        parts = {f"{key}/{n} {row.get('name', '')}": row for n, row in enumerate(rows or [])} or {key: value}
        entries |= {name: text_of(part) for name, part in parts.items()}
    return entries


def of_table(table: Any) -> dict[str, str]:
    """Each column: as an array where it is one."""
    import pyarrow as pa

    parts = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if VOLATILE.search(name):
            continue
        if isinstance(column, pa.FixedShapeTensorArray):
            parts[name] = array(column.to_numpy_ndarray())
        elif pa.types.is_primitive(column.type) and not column.null_count:
            parts[name] = array(column.to_numpy(zero_copy_only=False))
        else:
            parts[name] = text_of(column.to_pylist())
    return parts


def of_parquet(data: bytes) -> dict[str, str]:
    """Each column of a Parquet file."""
    import pyarrow.parquet as pq

    return of_table(pq.read_table(io.BytesIO(data)))


def of_arrow(data: bytes) -> dict[str, str]:
    """Each column of a commit log."""
    import pyarrow as pa

    return of_table(pa.ipc.open_stream(data).read_all())


NAMES = {"F32": "float32", "F64": "float64", "I64": "int64", "I32": "int32", "U8": "uint8", "BOOL": "bool"}


def of_safetensors(data: bytes) -> dict[str, str]:
    """Each tensor; what is said about them is left out."""
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    head.pop("__metadata__", None)
    parts = {}
    for name, about in head.items():
        start, end = (8 + size + n for n in about["data_offsets"])
        dtype = NAMES.get(about["dtype"], about["dtype"])
        parts[name] = f"{dtype} {about['shape']} {digest(data[start:end])}"
    return parts


def of_npz(data: bytes) -> dict[str, str]:
    """Each array."""
    import numpy as np

    with np.load(io.BytesIO(data)) as arrays:
        return {name: array(arrays[name]) for name in arrays.files}


def of_png(data: bytes) -> dict[str, str]:
    """The pixels."""
    import numpy as np
    from PIL import Image

    return {"pixels": array(np.asarray(Image.open(io.BytesIO(data))))}


READERS: dict[str, Callable[[bytes], dict[str, str]]] = {
    ".json": of_json, ".yaml": of_json, ".parquet": of_parquet, ".arrows": of_arrow, ".safetensors": of_safetensors,
    ".npz": of_npz, ".png": of_png,
}  # fmt: skip


def results(home: Path) -> Iterator[tuple[str, Tree]]:
    """The files of a run that are results: their contents by parts, and a digest of their bytes."""
    for path in sorted(p for p in home.rglob("*") if p.is_file()):
        name = str(path.relative_to(home))
        if any(fnmatch.fnmatch(name, pattern) for pattern in UNREAD):
            continue
        data = path.read_bytes()
        parts = READERS.get(path.suffix, lambda data: {"": digest(data)})(data)
        whole = {} if any(fnmatch.fnmatch(name, pattern) for pattern in NO_BYTES) else {"bytes": digest(data)}
        yield name, {**whole, "content": parts}
