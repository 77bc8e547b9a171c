"""The tables of the seeds: every cell names a recipe that there is, and what is stored is what is printed."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from raystill.actors.drive import pipeline
from raystill.platform.recipes import RECIPES
from raystill.platform.spec import DistillSpec

ROOT = Path(__file__).parents[1]


@pytest.fixture
def reproduce(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    told = importlib.util.spec_from_file_location("reproduce", ROOT / "benchmarks" / "reproduce.py")
    assert told is not None
    assert told.loader is not None
    module = importlib.util.module_from_spec(told)
    monkeypatch.setitem(sys.modules, "reproduce", module)
    told.loader.exec_module(module)
    return module


def test_every_cell_names_a_recipe(reproduce: Any) -> None:
    for _, cells in reproduce.TABLES.values():
        for cell in cells:
            words = shlex.split(cell.argv)
            assert words[words.index("--recipe") + 1] in RECIPES


def test_a_table_prints_what_is_stored_and_says_what_is_not(reproduce: Any) -> None:
    found = {cell.name: reproduce.stored(cell.name) for cell in reproduce.TABLES[1][1]}
    page = "\n".join(reproduce.lines(1, found))
    own = json.loads((ROOT / "benchmarks" / "results" / "mnist-fixed-10.json").read_text())
    assert f"**{own['mean']:.2f}** | - | +- 0.26 (3 seeds)" in page
    assert "| 93.76 | 94 |" in page
    page = "\n".join(reproduce.lines(1, dict.fromkeys(found)))
    assert page.count("not measured") == len(found)


def test_a_page_is_written_with_the_tables_that_it_marks(reproduce: Any) -> None:
    page = "one\n<!-- table 1 -->\nold\n<!-- end of table 1 -->\ntwo\n"
    found = reproduce.written(page)
    assert "old" not in found
    assert found.startswith("one\n<!-- table 1 -->\n### Table 1: ")
    assert "time_to_accuracy.py --seeds 0,1,2 --recipe mnist-fixed-10" in found
    assert found.endswith("\n<!-- end of table 1 -->\ntwo\n")
    assert reproduce.written(found) == found
    with pytest.raises(ValueError, match="has no <!-- end of table 2 -->"):
        reproduce.written("<!-- table 2 -->")


def test_the_page_of_results_marks_every_table(reproduce: Any) -> None:
    page = (ROOT / "docs" / "results" / "tables.md").read_text()
    for number in reproduce.TABLES:
        assert page.count(f"<!-- table {number} -->") == page.count(f"<!-- end of table {number} -->") == 1


def test_a_finished_run_is_kept_with_its_baselines_and_the_command(
    reproduce: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = DistillSpec.model_validate({
        "recipe": "digits", "data": {"limit": 100}, "learner": {"name": "linear"},
        "outer": {"steps": 2, "members": 1, "chunk": 1, "batch_size": 16}, "validation": {"every": 1, "networks": 1},
        "assess": {"networks": 1, "baselines": False}, "run": {"out": tmp_path, "workers": 0, "name": "run"},
        "tracking": {"enabled": False},
    })  # fmt: skip
    pipeline.distill(spec)
    monkeypatch.setattr(reproduce, "RESULTS", tmp_path)
    result = reproduce.keep([tmp_path / "run"], "poison-mnist")
    assert result == reproduce.stored("poison-mnist")
    assert result["command"].startswith("raystill distill --recipe digits")
    page = "\n".join(reproduce.lines(4, {"poison-mnist": result, "poison-mnist-fixed": None}))
    assert f"**{result['mean']:.2f}**" in page
    assert "| distilled |" in page
