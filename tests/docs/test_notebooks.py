"""The notebooks run from top to bottom, in this environment's kernel, and what their text claims holds."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
CLAIMS = {
    "distil-and-use": {"accuracy above 85 %": "100 * accuracy"},
    "search-with-a-rank-card": {
        "rho is above 0.9": "rho",
        "accuracy above 95 %": "accuracy",
    },
    "distil-a-teacher": {
        "student's test accuracy is above 90 %": "student",
        "test digits with an accuracy above 90 %": "100 * accuracy",
    },
}
"""Notebook -> what its text says -> the expression that is to be above the number in it."""
MOST_CPU_SECONDS = 60
FIGURES = "import resource, sys\n[{}, sys.executable, sum(resource.getrusage(resource.RUSAGE_SELF)[:2])]"


def bound(claim: str) -> float:
    return float(claim.partition("above ")[2].removesuffix(" %"))


def test_every_notebook_is_here_without_outputs() -> None:
    paths = {path.stem: path for path in FOLDER.glob("*.ipynb")}
    assert set(paths) == set(CLAIMS)
    for path in paths.values():
        notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        nbformat.validate(notebook)
        assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert not [cell.id for cell in cells if cell.outputs or cell.execution_count]


@pytest.mark.notebook
@pytest.mark.parametrize("name", CLAIMS)
def test_a_notebook_runs_and_keeps_its_claims(name: str, tmp_path: Path) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    text = " ".join(" ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown").split())
    missing = [claim for claim in CLAIMS[name] if claim not in text]
    assert not missing
    notebook.cells.append(new_code_cell(FIGURES.format(", ".join(CLAIMS[name].values()))))
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    *values, executable, seconds = ast.literal_eval(notebook.cells[-1].outputs[-1]["data"]["text/plain"])
    assert executable == sys.executable
    assert seconds < MOST_CPU_SECONDS
    for claim, value in zip(CLAIMS[name], values):
        assert value > bound(claim), claim
    shown = [output.data for cell in notebook.cells[:-1] for output in cell.get("outputs", []) if "data" in output]
    assert any('class="raystill"' in data.get("text/html", "") or "image/svg+xml" in data for data in shown)
    assert len(nbformat.writes(notebook)) < 2_000_000
