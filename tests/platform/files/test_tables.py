"""Tables of one schema: what is written is read, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raystill.platform.files import tables
from raystill.search.nas import ledger
from raystill.search.ranking import ground_truth
from raystill.search.temperature import settings

READERS: dict[str, Callable[[Path], object]] = {
    "ledger": lambda path: ledger.Ledger(path, ["flops"]),
    "table of settings": settings.read,
    "ground truth": ground_truth.load,
}


def test_rows_come_back_and_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    rows = [{"width": 0, "temperature": 2.0, "alpha": 0.5, "seed": n, "steps": 3, "accuracy": 0.25} for n in range(3)]
    tables.write(path, rows[:1], settings.SCHEMA)
    tables.write(path, rows, settings.SCHEMA)
    assert tables.read(path, settings.SCHEMA, "table") == rows
    assert [row._asdict() for row in settings.read(path)] == rows
    assert [file.name for file in tmp_path.iterdir()] == ["t.parquet"]


@pytest.mark.parametrize("what", READERS)
def test_a_torn_file_or_another_table_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 and then the power went")
    with pytest.raises(ValueError, match=rf"t\.parquet: is no {what}: ") as torn:
        READERS[what](path)
    pq.write_table(pa.table({"a": [1], "b": [2]}), path)
    with pytest.raises(ValueError, match=rf"is no {what}: its columns are a, b$") as other:
        READERS[what](path)
    assert "\n" not in str(torn.value) + str(other.value)
