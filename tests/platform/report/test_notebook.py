"""Runs in a notebook: the result first, all measurements, escaped, bounded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import raystill
from raystill.platform.report.notebook import load_run

ROWS = [
    {"name": "distilled", "kind": "distilled", "accuracy_mean": 91.25, "accuracy_std": 1.5, "n": 5},
    {"name": "random <real>", "kind": "baseline", "accuracy_mean": 70.0, "same_budget": True},
]
STAGE = {"parameters": 1210, "test_mean": 90.0, "test_std": 0.5}
RESULTS = {
    "split": "test",
    "test_images": 360,
    "seeds": [0, 1],
    "rows": [
        {"name": "student", "kind": "student", "test": [90.5, 89.5], **STAGE},
        {"name": "<alone>", "kind": "baseline", "test": [88.5, 87.5], **STAGE, "test_mean": 88.0},
    ],
}


def test_a_run_shows_its_result_measurements_curve_and_images(made: Callable[..., Path]) -> None:
    run = load_run(made(rows=ROWS))
    assert "run-1" in repr(run)
    assert "91.2 ± 1.5 %" in repr(run)
    assert len(repr(run)) < 400
    text = run._repr_html_()
    assert text.count("91.2 ± 1.5 %") == 2  # the sentence and the table
    assert "random &lt;real&gt;" in text
    assert "random <real>" not in text
    assert text.count("<svg") == 1
    assert text.count("<img") == 1
    assert "30 steps: 2 to 0.0667" in text  # the folder's losses are 2 / t
    assert len(text) < 500_000


def test_a_run_without_history_and_assessment_is_shown(made: Callable[..., Path]) -> None:
    run = raystill.load_run(str(made(history=0)))
    assert "not measured on test data yet" in repr(run)
    assert "<svg" not in run._repr_html_()


def test_many_measurements_are_cut_and_counted(made: Callable[..., Path]) -> None:
    text = load_run(made(rows=[ROWS[0]] + [ROWS[1]] * 30))._repr_html_()
    assert text.count("random &lt;real&gt;") == 19
    assert "11 more measurements are in .assessment.rows" in text


def test_a_run_of_students_shows_its_verdict_and_stages(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("command: kd\n")
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    run = load_run(tmp_path)
    # differences 2 and 2: ahead, without a spread
    assert "is ahead of the same student without the method: 90.00 % against 88.00 %" in repr(run)
    text = run._repr_html_()
    assert "90.00 ± 0.50 % on test data; 1,210 parameters" in text
    assert "&lt;alone&gt; (without the method)" in text


@pytest.mark.parametrize(("spec", "words"), [(None, "not a run"), ("command: search tune\n", "report.html; valid: ")])
def test_what_can_not_be_shown_is_an_error(tmp_path: Path, spec: str | None, words: str) -> None:
    if spec is not None:
        (tmp_path / "spec.yaml").write_text(spec)
    with pytest.raises(ValueError, match=words):
        load_run(tmp_path)
