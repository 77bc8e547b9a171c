"""The rank card, from a ground truth to its page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raystill.platform.architectures import Arch
from raystill.platform.artifacts.files import Distilled, save_distilled
from raystill.platform.runs import folder as runs
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import RunSpec
from raystill.search.card import comparison, rankings
from raystill.search.card import page as card_page
from raystill.search.card.run import rank_card, resume
from raystill.search.card.spec import CardSpec
from raystill.search.ranking import statistics
from raystill.search.ranking.ground_truth import GroundTruth, train_missing
from raystill.search.ranking.levels import Level, level
from raystill.search.ranking.scoring import Ranking, Scorer, Scores


def made(noise: float, wrong: bool = False) -> GroundTruth:
    rng = numpy_rng(Address(2, stream="truth"))
    archs = tuple(level("mnist").architectures())
    quality = rng.uniform(20, 95, 96)
    test = quality[:, None] + noise * rng.standard_normal((96, 3))
    validation = rng.permutation(quality)[:, None] + 0 * test if wrong else test + 0.1 * rng.standard_normal((96, 3))
    return GroundTruth(archs, test, validation, np.full((96, 3), 2.0), "f")


def test_a_card_says_what_was_put_in() -> None:
    table = made(0.1)
    scores = {"gtn": table.mean, "untrained": -table.mean, "parameters": np.zeros(96)}
    found = comparison.compare(table, scores, dict.fromkeys(scores, 9.0), meta_seconds=100.0, resamples=200)
    assert found["speaks"]
    assert found["rankers"]["gtn"]["rho"] == pytest.approx(1.0)
    assert found["rankers"]["gtn"]["regret"] == {"1": 0.0, "3": 0.0, "5": 0.0}
    assert found["gtn_minus_untrained_low"] == pytest.approx(2.0)
    assert "combined_minus" not in found
    assert found["rankers"]["parameters"]["rho"] is None
    assert found["time_to_best_gtn"] == {"without_meta": 11.0, "with_meta": 111.0, "amortised_over_10": 21.0}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    page = card_page.render(found, scores, table)
    assert page.count("<circle") == 3 * 96
    titles = [ax.get_title() for ax in card_page.figure(found, scores, table).axes]
    assert titles == ["gtn\n1.00 [1.00, 1.00]", "untrained\n-1.00 [-1.00, -1.00]"]


def test_networks_that_are_missing_take_nothing_from_the_others() -> None:
    table, cut = made(5.0), made(5.0)
    for values in (cut.test, cut.validation, cut.seconds):
        values[40:, 1:] = np.nan
    found = comparison.compare(cut, {"gtn": cut.mean}, {"gtn": 1.0}, resamples=100)
    assert (found["networks"], found["architectures_with_all_seeds"]) == (96 + 2 * 40, 40)
    assert found["noise_ceiling"] == pytest.approx(statistics.noise_ceiling(table.test[:40]))
    agreed = [statistics.spearman(table.validation[:n, s], table.test[:n, s]) for s, n in enumerate((96, 40, 40))]
    assert found["rho_val_test"] == pytest.approx(np.mean(agreed))
    np.testing.assert_array_equal(cut.mean, [*table.mean[:40], *table.test[40:, 0]])


def test_a_combined_ranker_is_told_apart_from_each_alone() -> None:
    table = made(0.1)
    scores = {"gtn + cheap": table.mean, "gtn": table.mean, "cheap rank sum": -table.mean}
    found = comparison.compare(table, scores, dict.fromkeys(scores, 1.0), resamples=100)
    assert found["combined_minus"] == {"gtn": [0.0, 0.0], "cheap rank sum": pytest.approx([2.0, 2.0])}
    assert found["gtn_minus"]["gtn + cheap"] == [0.0, 0.0]


@pytest.mark.parametrize(("noise", "wrong"), [(80.0, False), (0.1, True)])
def test_a_card_refuses_to_speak_of_noise_and_of_a_steady_error(noise: float, wrong: bool) -> None:
    table = made(noise, wrong)
    found = comparison.compare(table, {"gtn": table.mean}, {"gtn": 1.0}, resamples=100)
    assert not found["speaks"]
    assert "rankers" not in found
    assert "must be 0.9" in found["why"]
    assert "does not speak" in card_page.render(found, None, table)


def test_break_even() -> None:
    assert comparison.break_even(90.0, 1.0, 10.0) == 10.0
    assert comparison.break_even(90.0, 10.0, 10.0) is None


def test_a_card_from_its_ground_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: Level) -> None:
    path = tmp_path / "t.parquet"
    train_missing("digits", path, "command", lambda _: None)
    monkeypatch.setattr(statistics, "LEAST", -1.0)  # six architectures and 8 steps: plumbing, no quality
    spec = CardSpec(level="digits", truth=path, resamples=100, run=RunSpec(out=tmp_path, workers=0))
    found, scores, folder = rank_card(spec, lambda _: None)
    assert found["speaks"]
    assert set(found["rankers"]) == set(scores)
    assert {"real equal steps", "real 10 per class", "cheap rank sum", "real equal steps + cheap"} <= set(scores)
    assert folder.name == "card-digits-1"


def test_a_card_has_a_row_for_each_named_artefact_and_refuses_names_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: Level, noise: Callable[..., Distilled]
) -> None:
    path, place = tmp_path / "t.parquet", save_distilled(tmp_path / "noise", noise())
    train_missing("digits", path, "command", lambda _: None)
    monkeypatch.setattr(statistics, "LEAST", -1.0)

    def spec(*also: str) -> CardSpec:
        return CardSpec(level="digits", truth=path, resamples=100, also=also, run=RunSpec(out=tmp_path, workers=0))

    found, scores, _ = rank_card(spec(f"noise={place}", f"again={place}"), lambda _: None)
    np.testing.assert_array_equal(scores["noise"], scores["again"])
    assert {"noise", "again", "real halving"} <= set(found["rankers"])
    for also, message in (
        (("noise",), "'noise' is not NAME=RUN"),
        ((f"noise={place}",) * 2, "'noise' is given twice"),
        ((f"flops={place}",), "flops: a row of every card"),
        (("noise=nowhere",), "not an artefact"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            rank_card(spec(*also))
        assert "\n" not in str(error.value)


def test_a_card_that_was_killed_goes_on_and_says_what_was_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: Level, noise: Callable[..., Distilled]
) -> None:
    path, keys = tmp_path / "t.parquet", sorted(level("digits").keys())
    train_missing("digits", path, "command", lambda _: None)
    monkeypatch.setattr(statistics, "LEAST", -1.0)

    def kept(name: str, exclude: list[str]) -> str:
        spec = {"learner": {"draw": "macro", "exclude": exclude}}
        manifest = {"classes": [str(k) for k in range(10)], "spec": spec}
        return str(save_distilled(tmp_path / name, dataclasses.replace(noise(), manifest=manifest)))

    spec = CardSpec(
        level="digits", truth=path, resamples=100, curriculum=(kept("unseen", keys),), meta_seconds=5.0,
        also=(f"seen={kept('seen', keys[1:])}",), run=RunSpec(out=tmp_path / "runs", workers=0), equal_seconds=True,
    )  # fmt: skip
    told, computed, scores = list[str](), list[tuple[str, int]](), Scorer.scores
    with monkeypatch.context() as patch:
        patch.setattr(rankings, "halved", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rank_card(spec, told.append)
    folder = tmp_path / "runs" / "card-digits-1"
    assert runs.made_by(folder) == "search card"

    def counted(self: Scorer, ranking: Ranking, archs: list[Arch]) -> Scores:
        found = scores(self, ranking, archs)
        computed.append((ranking.name, found.computed))
        return found

    monkeypatch.setattr(Scorer, "scores", counted)
    found = resume(folder)
    assert found["held_out"] == {"gtn": True, "seen": False}
    assert {name for name, many in computed if many} == {"rung 32", "rung 128", "rung 512"}
    others = {"tau", "top_half", "precision_10", "regret_1", "regret_3", "regret_5"}
    assert set(found["rankers"]["gtn"]["intervals"]) == others
    assert found["time_to_best_gtn"]["with_meta"] == found["time_to_best_gtn"]["without_meta"] + 5
    assert json.loads((folder / "card.json").read_text())["held_out"] == found["held_out"]
    assert "real equal seconds" in (folder / "report.html").read_text()


def test_equal_seconds_are_seconds_whatever_evaluation_costs() -> None:
    steps, many, step, evaluation = 16, 96, 0.001, 0.0165
    short, long = (many * (n * steps * step + evaluation) for n in (1, rankings.LONGER))
    afforded = rankings.affordable(250.0, {"real equal steps": short, "real longer": long}, steps, many)
    assert many * (afforded * step + evaluation) == pytest.approx(250.0, rel=1e-3)


def test_a_card_without_its_files_or_figures_says_so(tmp_path: Path, short: Level) -> None:
    spec = CardSpec(level="digits", truth=tmp_path / "none.parquet", run=RunSpec(out=tmp_path, workers=0))
    with pytest.raises(ValueError, match=r"truth: no file .*none\.parquet; give --truth FILE"):
        rank_card(spec)
    train_missing("digits", tmp_path / "none.parquet", "command", lambda _: None)
    with pytest.raises(ValueError, match="equal_seconds: needs meta_seconds"):
        rank_card(spec.model_copy(update={"equal_seconds": True}))
    table = made(0.1)
    found = comparison.compare(table, {"gtn": table.mean}, {"gtn": 1.0}, resamples=100)
    assert found["time_to_best_gtn"]["with_meta"] is None


def test_halving_gives_the_longest_training_to_those_that_did_best_in_a_shorter_one() -> None:
    """By a scorer whose accuracies after so many steps are known."""
    accuracy = {2: [0.5, 0.1, 0.4, 0.3, 0.2, 0.0, 0.15, 0.05], 4: [0.2, 0.9, 0.6, 0.9, 0.9, 0.9, 0.9, 0.9]}
    archs = level("digits").architectures()[:8]

    class Known:
        def scores(self, ranking: Ranking, some: list[Arch]) -> Scores:
            values = np.array([accuracy[ranking.options.protocol.steps][archs.index(arch)] for arch in some])
            return Scores(values, values, values, np.full(len(some), 1.5), 0.0, len(some))

    found, seconds = rankings.halved(Known(), archs, 8, 0.1, rungs=(2, 4))  # type: ignore[arg-type]
    assert found.tolist() == [1.2, 0.1, 1.6, 0.3, 0.2, 0.0, 0.15, 0.05]
    assert seconds == 1.5 * (8 + 2)
