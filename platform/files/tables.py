"""Parquet tables of one schema each: the ledger, the settings of a temperature search, the ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raystill.platform.files.storage import write_whole


def write(path: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema) -> None:
    """Rows as one file, whole or not at all."""
    table = pa.Table.from_pylist(list(rows), schema=schema)
    write_whole(path, lambda stream: pq.write_table(table, stream, compression="zstd"))


def read(path: Path, schema: pa.Schema, what: str) -> list[dict[str, Any]]:
    """The rows of a file.

    Args:
        schema: columns and their types.
        what: kind of file for the error, such as `ledger`.

    Raises:
        ValueError: the file is missing or torn, or has other columns.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: is no {what}: {' '.join(str(error).split())[:200]}") from None
    if not table.schema.equals(schema):
        raise ValueError(f"{path}: is no {what}: its columns are {', '.join(table.column_names)[:200]}")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
