"""The page says what the run's files say, loads nothing and escapes everything."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raystill.platform.report import write_report
from raystill.platform.report.run_folder import read_run

Made = Callable[..., Path]
ROWS = [
    {"name": "distilled", "kind": "distilled", "accuracy_mean": 94.2, "accuracy_std": 0.4, "n": 20,
     "spread_over": "20 fresh networks", "distillation_seeds": {"n": 3, "mean": 94.0, "std": 0.3}},
    {"name": "class averages", "kind": "baseline", "same_budget": True, "accuracy_mean": 70.0, "accuracy_std": 2.0,
     "n": 20},
    {"name": "k-NN", "kind": "baseline", "same_budget": False, "accuracy_mean": 48.0},
    {"name": "convnet", "kind": "architecture", "accuracy_mean": 71.0, "accuracy_std": 2.0, "n": 5},
    {"name": "label-robust score", "kind": "robustness", "accuracy_mean": 61.0},
    {"name": "whole training set", "kind": "reference", "accuracy_mean": 98.9},
]  # fmt: skip


class _Tags(HTMLParser):
    """Opening tags with their attributes; says which elements were left open."""

    void = frozenset({"meta", "link", "img", "br", "path", "circle", "rect"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def words_of(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", page))


def test_a_whole_run(made: Made) -> None:
    page = write_report(made(rows=ROWS)).read_text()
    words = words_of(page)
    for expected in (
        "10 distilled images of digits", "94.2 ± 0.4 %", "94.0 ± 0.3 %", "3 seeds", "class averages", "+24.2",
        "ahead of the one baseline", "raystill distill --config spec.yaml", "convnet", "label-robust score",
        "whole training set", "test split, 10,000 images", "abc" * 20, "torch 2.x", "synthesizer:", "15 s",
    ):  # fmt: skip
        assert expected in words, expected
    parsed = _Tags(page)
    assert not parsed.open
    images = [attributes for tag, attributes in parsed.tags if tag == "img"]
    assert len(images) == 10
    assert all(image["alt"] and image["src"].startswith("data:image/png;base64,") for image in images)
    assert sum("chart" in (attributes.get("class") or "").split() for _, attributes in parsed.tags) == 3


def test_nothing_is_loaded_from_elsewhere(made: Made) -> None:
    page = write_report(made(rows=ROWS, soft=True, per_step=5)).read_text()
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in page
    for _, attributes in _Tags(page).tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")


def test_the_same_run_gives_the_same_bytes(made: Made) -> None:
    run = made(rows=ROWS)
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert not list(run.glob(".*"))


def test_what_is_missing_is_said(made: Made) -> None:
    words = words_of(write_report(made(history=0)).read_text())
    assert "history.parquet is missing" in re.sub(r"\s+", " ", words)
    assert "assessment.json is missing" in re.sub(r"\s+", " ", words)
    assert "not measured on test data yet" in words


@pytest.mark.parametrize("soft", [False, True])
def test_everything_is_escaped(made: Made, soft: bool) -> None:
    evil = '"><script>alert(1)</script>&'
    rows = [{**ROWS[0], "name": evil, "note": evil, "learner": evil, "spread_over": evil}, {**ROWS[1], "name": evil}]
    page = write_report(made(rows=rows, soft=soft, classes=[evil] * 10, spec={"data": {"source": evil}})).read_text()
    assert "<script" not in page
    assert not _Tags(page).open


def test_credentials_stay_out(made: Made) -> None:
    page = write_report(made(spec={"tracking": {"uri": "postgresql://me:hunter2@host/db"}})).read_text()
    assert "hunter2" not in page


def test_a_recipe_and_what_was_changed(made: Made) -> None:
    spec = {"recipe": "mnist-fixed-10", "data": {"source": "mnist"}, "run": {"seed": 3}, "validation": {"every": 7}}
    words = words_of(write_report(made(spec=spec)).read_text())
    command = next(line for line in words.splitlines() if "--recipe mnist-fixed-10" in line)
    assert "--run.seed 3" in command
    assert "--validation.every 7" in command


@pytest.mark.parametrize("recipe", [None, "gone", "spec..yaml"])
def test_a_recipe_that_this_version_does_not_ship(made: Made, recipe: str | None) -> None:
    page = write_report(made(spec={"recipe": recipe})).read_text()
    assert "--recipe" not in page


def test_many_images_are_cut_and_counted(made: Made) -> None:
    page = write_report(made(steps=4, per_step=200)).read_text()
    assert page.count("<img ") == 600
    assert "200 more are in the artefact" in page


@pytest.mark.parametrize("history", [1, 2, 3000])
def test_short_and_long_histories(made: Made, history: int) -> None:
    page = write_report(made(history=history)).read_text()
    assert "nan" not in page.split("<main>")[1].split("The resolved spec")[0]
    assert len(page) < 200_000


def test_a_diverged_history(made: Made) -> None:
    run = made()
    loss = [2.0, float("nan"), float("inf"), 1e30]
    pq.write_table(pa.table({"step": [0, 1, 2, 3], "meta_loss": loss}), run / "history.parquet")
    assert "Meta-loss" in write_report(run).read_text()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("assessment.json", "{", "assessment.json: malformed"),
        ("assessment.json", json.dumps({"split": "test", "rows": [{"name": "x"}]}), "rows.0.kind"),
        ("assessment.json", '{"split": "test", "rows": [{"name": "x", "kind": "baseline", "accuracy_mean": NaN}]}',
         "finite|malformed"),
        ("history.parquet", "PAR1", "history.parquet: malformed"),
        ("spec.yaml", "a: [", "spec.yaml: malformed"),
        ("spec.yaml", "- a", "a spec is a mapping"),
        ("artefact/manifest.json", "{}", "manifest.json: format"),
    ],
)  # fmt: skip
def test_malformed_files_are_named(made: Made, name: str, content: str, message: str) -> None:
    run = made()
    (run / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_run(run)
    assert "\n" not in str(caught.value)


def test_not_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a run folder"):
        write_report(tmp_path)
