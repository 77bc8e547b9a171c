"""Each example runs as it stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SAYS = {
    "distill_digits.py": "20 images, learned rates",
    "use_artefact.py": "test accuracy of a network that never saw a real image",
    "own_learner.py": "images (2, 2, 1, 12, 12), labels [[0, 1], [0, 1]]",
    "meta_gradient.py": "central difference",
    "linear_bound.py": "at M = D",
    "teach.py": "test accuracy after 16 steps on generated digits",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


def test_every_example_is_tested() -> None:
    assert sorted(SAYS) == sorted(p.name for p in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", SAYS)  # in the order above: the second uses the first's result
def test_runs(name: str, folder: Path) -> None:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(EXAMPLES / name)]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert SAYS[name] in done.stdout
    assert len((EXAMPLES / name).read_text().splitlines()) < 100
