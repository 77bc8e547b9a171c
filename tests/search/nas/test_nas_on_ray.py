"""A search on evaluators: the same ledger as in this process, killed evaluators or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raystill.search.nas.generations import LEDGER
from raystill.search.nas.run import search_architecture as nas
from raystill.search.nas.spec import NasSpec

pytestmark = pytest.mark.ray


def test_evaluators_and_their_deaths_change_no_row(
    tmp_path: Path, ray_cluster: None, small: Callable[..., NasSpec]
) -> None:
    here = nas(small(tmp_path / "here"))
    faults = {"out": tmp_path / "there", "workers": 2, "device": "cpu", "faults": ["evaluator 0 at step 1: kill"]}
    there = nas(small(tmp_path / "there", run=faults))
    rows = [pq.read_table(tmp_path / place / "nas-1" / LEDGER).to_pylist() for place in ("here", "there")]
    assert rows[0] == rows[1]
    assert here["pick"]["test"] == there["pick"]["test"]
    assert "kill" in (tmp_path / "there" / "nas-1" / "faults.txt").read_text()
