"""Ground truth and the card that is made of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from raystill.platform import learners
from raystill.platform.architectures.spaces import Arch, parse
from raystill.platform.artifacts.files import Distilled, save_distilled
from raystill.platform.data import load
from raystill.platform.files import tables
from raystill.platform.recipes import recipe
from raystill.platform.runs import folder as runs
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import DataSpec, DistillSpec, RunSpec
from raystill.platform.work.problem import resolve_auto
from raystill.platform.work.workbench import Workbench
from raystill.search.card import page as card_page
from raystill.search.card import run
from raystill.search.card.command import rank_card, resume
from raystill.search.ranking import statistics, truth
from raystill.search.ranking.scoring import Ranking, Scorer, Scores
from raystill.search.ranking.truth import Truth, batches, level, make, sample
from raystill.search.spec import CardSpec


def test_architectures_are_distinct_the_same_again_and_not_among_those_left_out() -> None:
    first = level("mnist").architectures()
    assert [a.text for a in first] == [a.text for a in level("cifar").architectures()]
    assert len({a.key for a in first}) == 96
    assert not level("mnist").keys() & {a.key for a in sample("macro", 20, "rank/spare", level("mnist").keys())}


def test_batches_are_passes_over_all_examples() -> None:
    rows = np.concatenate(list(batches(10, 4, 5, Address(0))))
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))


def test_a_network_that_stops_on_the_way_ends_with_the_same_bits() -> None:
    bench = Workbench(resolve_auto(DistillSpec(), "cpu"), None, load(DataSpec()))
    arch, protocol = parse("macro:d1-w4-x1-k3-max-group-relu-fc"), truth.Protocol(9, batch=32)
    problem = bench.problem_of(learners.wrap(arch.build((1, 8, 8), 10)))
    address = truth.address_of(arch, 4)
    *on_the_way, end = truth.fit(problem.learner, bench.train, address, protocol, (2, 7))
    (straight,) = truth.fit(problem.learner, bench.train, address, protocol)
    torch.testing.assert_close(end, straight, rtol=0, atol=0)
    assert len({theta.sum().item() for theta in (*on_the_way, end)}) == 3
    # torch's own optimiser is the oracle of what a step is
    network = problem.learner.load(problem.learner.init(address))
    optimiser = torch.optim.SGD(network.parameters(), protocol.lr, protocol.momentum)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, protocol.steps)
    for rows in batches(len(bench.train), 32, 9, address.at(stream=f"{address.stream}/batches")):
        x, y = bench.train.batch(rows)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()
        schedule.step()
    x, _ = bench.validation.batch(np.arange(50))
    ours = problem.learner.apply(end, x)
    torch.testing.assert_close(network(x), ours, rtol=0, atol=1e-3)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> truth.Level:
    """The level `digits` cut down to a second of work."""
    old = truth.LEVELS["digits"]
    found = truth.Level(old.space, old.data, 6, 2, truth.Protocol(8))
    monkeypatch.setitem(truth.LEVELS, "digits", found)
    return found


def test_a_table_goes_on_where_it_was_and_refuses_another_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: truth.Level
) -> None:
    path = tmp_path / "t.parquet"
    assert make("digits", path, "command", lambda _: None, [0]) == 6
    whole = tables.read(path, truth.SCHEMA, truth.WHAT)
    truth.write(path, whole[:4], "command")
    assert make("digits", path, "command", lambda _: None, [0]) == 2
    again = tables.read(path, truth.SCHEMA, truth.WHAT)
    drop = [[{k: v for k, v in r.items() if k != "cpu_seconds"} for r in t] for t in (whole, again)]
    assert drop[0] == drop[1]
    other = truth.Level(short.space, short.data, short.many, short.seeds, truth.Protocol(16))
    monkeypatch.setitem(truth.LEVELS, "digits", other)
    with pytest.raises(ValueError, match="rows of another protocol"):
        make("digits", path, "command", lambda _: None, [0])


def made(noise: float, wrong: bool = False) -> Truth:
    rng = numpy_rng(Address(2, stream="truth"))
    archs = tuple(level("mnist").architectures())
    quality = rng.uniform(20, 95, 96)
    test = quality[:, None] + noise * rng.standard_normal((96, 3))
    validation = rng.permutation(quality)[:, None] + 0 * test if wrong else test + 0.1 * rng.standard_normal((96, 3))
    return Truth(archs, test, validation, np.full((96, 3), 2.0), "f")


def test_a_card_says_what_was_put_in() -> None:
    table = made(0.1)
    scores = {"gtn": table.mean, "untrained": -table.mean, "parameters": np.zeros(96)}
    found = run.card(table, scores, dict.fromkeys(scores, 9.0), meta_seconds=100.0, resamples=200)
    assert found["speaks"]
    assert found["rankers"]["gtn"]["rho"] == pytest.approx(1.0)
    assert found["rankers"]["gtn"]["regret"] == {"1": 0.0, "3": 0.0, "5": 0.0}
    assert found["gtn_minus_untrained_low"] == pytest.approx(2.0)
    assert "combined_minus" not in found
    assert found["rankers"]["parameters"]["rho"] is None
    assert found["time_to_best_gtn"] == {"without_meta": 11.0, "with_meta": 111.0, "amortised_over_10": 21.0}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    page = card_page.page(found, scores, table)
    assert page.count("<circle") == 3 * 96
    titles = [ax.get_title() for ax in card_page.figure(found, scores, table).axes]
    assert titles == ["gtn\n1.00 [1.00, 1.00]", "untrained\n-1.00 [-1.00, -1.00]"]


def test_networks_that_are_missing_take_nothing_from_the_others() -> None:
    table, cut = made(5.0), made(5.0)
    for values in (cut.test, cut.validation, cut.seconds):
        values[40:, 1:] = np.nan
    found = run.card(cut, {"gtn": cut.mean}, {"gtn": 1.0}, resamples=100)
    assert (found["networks"], found["architectures_with_all_seeds"]) == (96 + 2 * 40, 40)
    assert found["noise_ceiling"] == pytest.approx(statistics.noise_ceiling(table.test[:40]))
    agreed = [statistics.spearman(table.validation[:n, s], table.test[:n, s]) for s, n in enumerate((96, 40, 40))]
    assert found["rho_val_test"] == pytest.approx(np.mean(agreed))
    np.testing.assert_array_equal(cut.mean, [*table.mean[:40], *table.test[40:, 0]])


def test_a_seed_that_is_under_way_counts_once_it_has_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: truth.Level
) -> None:
    path = tmp_path / "t.parquet"
    make("digits", path, "command", lambda _: None)
    rows = tables.read(path, truth.SCHEMA, truth.WHAT)
    truth.write(path, rows[:8], "command")
    assert truth.truth(path).test.shape == (6, 1)
    monkeypatch.setattr(truth, "ENOUGH", 2)
    assert np.isnan(truth.truth(path).test).sum() == 4
    truth.write(path, rows[:5] + rows[7:12], "command")
    with pytest.raises(ValueError, match="no seed has all of its 6"):
        truth.truth(path)


def test_a_combined_ranker_is_told_apart_from_each_alone() -> None:
    table = made(0.1)
    scores = {"gtn + cheap": table.mean, "gtn": table.mean, "cheap rank sum": -table.mean}
    found = run.card(table, scores, dict.fromkeys(scores, 1.0), resamples=100)
    assert found["combined_minus"] == {"gtn": [0.0, 0.0], "cheap rank sum": pytest.approx([2.0, 2.0])}
    assert found["gtn_minus"]["gtn + cheap"] == [0.0, 0.0]


@pytest.mark.parametrize(("noise", "wrong"), [(80.0, False), (0.1, True)])
def test_a_card_refuses_to_speak_of_noise_and_of_a_steady_error(noise: float, wrong: bool) -> None:
    table = made(noise, wrong)
    found = run.card(table, {"gtn": table.mean}, {"gtn": 1.0}, resamples=100)
    assert not found["speaks"]
    assert "rankers" not in found
    assert "must be 0.9" in found["why"]
    assert "does not speak" in card_page.page(found, None, table)


def test_break_even() -> None:
    assert run.break_even(90.0, 1.0, 10.0) == 10.0
    assert run.break_even(90.0, 10.0, 10.0) is None


def test_a_card_from_its_ground_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: truth.Level) -> None:
    path = tmp_path / "t.parquet"
    make("digits", path, "command", lambda _: None)
    monkeypatch.setattr(run.statistics, "LEAST", -1.0)  # six architectures and 8 steps: plumbing, no quality
    spec = CardSpec(level="digits", truth=path, resamples=100, run=RunSpec(out=tmp_path, workers=0))
    found, scores, folder = rank_card(spec, lambda _: None)
    assert found["speaks"]
    assert set(found["rankers"]) == set(scores)
    assert {"real equal steps", "real 10 per class", "cheap rank sum", "real equal steps + cheap"} <= set(scores)
    assert folder.name == "card-digits-1"


def test_a_card_has_a_row_for_each_named_artefact_and_refuses_names_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: truth.Level, noise: Callable[..., Distilled]
) -> None:
    path, place = tmp_path / "t.parquet", save_distilled(tmp_path / "noise", noise())
    make("digits", path, "command", lambda _: None)
    monkeypatch.setattr(run.statistics, "LEAST", -1.0)

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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: truth.Level, noise: Callable[..., Distilled]
) -> None:
    path, keys = tmp_path / "t.parquet", sorted(level("digits").keys())
    make("digits", path, "command", lambda _: None)
    monkeypatch.setattr(run.statistics, "LEAST", -1.0)

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
        patch.setattr(run, "halved", lambda *given: 1 / 0)
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


def test_equal_seconds_are_seconds_whatever_judging_costs() -> None:
    steps, many, step, judging = 16, 96, 0.001, 0.0165
    short, long = (many * (n * steps * step + judging) for n in (1, run.LONGER))
    afforded = run.affordable(250.0, {"real equal steps": short, "real longer": long}, steps, many)
    assert many * (afforded * step + judging) == pytest.approx(250.0, rel=1e-3)


def test_a_card_without_its_files_or_figures_says_so(tmp_path: Path, short: truth.Level) -> None:
    spec = CardSpec(level="digits", truth=tmp_path / "none.parquet", run=RunSpec(out=tmp_path, workers=0))
    with pytest.raises(ValueError, match=r"truth: no file .*none\.parquet; give --truth FILE"):
        rank_card(spec)
    make("digits", tmp_path / "none.parquet", "command", lambda _: None)
    with pytest.raises(ValueError, match="equal_seconds: needs meta_seconds"):
        rank_card(spec.model_copy(update={"equal_seconds": True}))
    table = made(0.1)
    found = run.card(table, {"gtn": table.mean}, {"gtn": 1.0}, resamples=100)
    assert found["time_to_best_gtn"]["with_meta"] is None


def test_halving_gives_the_longest_training_to_those_that_did_best_in_a_shorter_one() -> None:
    """By a scorer whose accuracies after so many steps are known."""
    accuracy = {2: [0.5, 0.1, 0.4, 0.3, 0.2, 0.0, 0.15, 0.05], 4: [0.2, 0.9, 0.6, 0.9, 0.9, 0.9, 0.9, 0.9]}
    archs = level("digits").architectures()[:8]

    class Known:
        def scores(self, ranking: Ranking, some: list[Arch]) -> Scores:
            values = np.array([accuracy[ranking.options["steps"]][archs.index(arch)] for arch in some])
            return Scores(values, values, values, np.full(len(some), 1.5), 0.0, len(some))

    found, seconds = run.halved(Known(), archs, 8, 0.1, rungs=(2, 4))  # type: ignore[arg-type]
    assert found.tolist() == [1.2, 0.1, 1.6, 0.3, 0.2, 0.0, 0.15, 0.05]
    assert seconds == 1.5 * (8 + 2)


@pytest.mark.parametrize(
    ("name", "levels"),
    [("gtn-mnist-14", ["mnist"]), ("gtn-cifar-16", ["cifar"])],
)
def test_recipes_that_rank_are_not_trained_with_what_they_will_rank(name: str, levels: list[str]) -> None:
    spec, keys = DistillSpec.model_validate(recipe(name)), frozenset().union(*(level(at).keys() for at in levels))
    assert set(spec.learner.exclude) == keys
    assert parse(spec.learner.name).key not in keys
    for at in levels:
        assert (spec.data.source, spec.data.size) == (level(at).data.source, level(at).data.size)
