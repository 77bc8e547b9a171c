"""Words follow from the numbers by arithmetic that can be checked by hand."""

from __future__ import annotations

import pytest

from raystill.platform.report.run_folder import Assessment, Measurement
from raystill.platform.report.verdict import against_baselines, margin, percent
from raystill.platform.report.words import plural


def row(mean: float, std: float, kind: str = "baseline", name: str = "other", same: bool = True) -> Measurement:
    return Measurement(name=name, kind=kind, accuracy_mean=mean, accuracy_std=std, n=5, same_budget=same)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [
        ((80, 1), (70, 2), "ahead"),
        ((80, 1), (77, 2), "within"),
        ((80, 1), (77, 1.9), "ahead"),
        ((80, 1), (82, 2), "within"),
        ((80, 1), (84, 2), "behind"),
    ],
)
def test_margin(ours: tuple[float, float], theirs: tuple[float, float], word: str) -> None:
    found = margin(row(*ours, kind="distilled"), row(*theirs))
    assert found.word == word
    assert found.points == pytest.approx(ours[0] - theirs[0])
    assert found.spread == pytest.approx(ours[1] + theirs[1])


def test_the_rival_that_is_hardest_to_tell_apart_decides() -> None:
    # 10 points ahead of a wide rival is less than 5 ahead of a narrow one
    rows = (row(80, 1, "distilled"), row(75, 1, name="narrow"), row(70, 9.5, name="wide"))
    word, sentence = against_baselines(Assessment(split="test", rows=rows))
    assert word == "within"
    assert "wide" in sentence
    assert "10.5 points" in sentence


def test_ahead_of_all() -> None:
    rows = (row(80, 1, "distilled"), row(70, 1), row(60, 1, name="far"), row(99, 0, name="more data", same=False))
    word, sentence = against_baselines(Assessment(split="test", rows=rows))
    assert word == "ahead"
    assert "all 2 baselines" in sentence
    assert "other at 70.0 ± 1.0 %, 10.0 points behind" in sentence


def test_behind_one() -> None:
    rows = (row(80, 1, "distilled"), row(90, 1), row(60, 1, name="far"))
    assert against_baselines(Assessment(split="test", rows=rows))[0] == "behind"


@pytest.mark.parametrize("rows", [(), (row(80, 1, "distilled"),), (row(70, 1),)])
def test_nothing_to_compare(rows: tuple[Measurement, ...]) -> None:
    assert against_baselines(Assessment(split="test", rows=rows))[0] == "none"


def test_words() -> None:
    assert plural(1, "image") == "1 image"
    assert plural(1000, "image") == "1,000 images"
    assert percent(row(94.25, 0.31)) == "94.2 ± 0.3 %"
    assert percent(Measurement(name="x", kind="reference", accuracy_mean=98.9)) == "98.9 %"
    assert percent(row(26.94, 0.5, "robustness")) == "26.9 ± 0.5"
