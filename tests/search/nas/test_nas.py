"""A search in this process: the same again, replayed after a stop, told apart where it is not the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from raystill.actors.drive.replay import command
from raystill.actors.record import commit_log
from raystill.platform import learners, registry
from raystill.platform.architectures import Arch, space
from raystill.platform.artifacts.files import Distilled, save_distilled
from raystill.platform.files import tables
from raystill.platform.runs import folder as runs
from raystill.platform.tracking.tracker import Tracker
from raystill.search.nas import command as command_module
from raystill.search.nas import retraining
from raystill.search.nas.curriculum import distillation
from raystill.search.nas.curriculum import resolve as with_curriculum
from raystill.search.nas.generations import LEDGER, rankings
from raystill.search.nas.ledger import Ledger, schema
from raystill.search.nas.run import RESULT, best_network, resume
from raystill.search.nas.run import search_architecture as nas
from raystill.search.nas.searchers import SEARCHERS
from raystill.search.nas.spec import NasSpec
from raystill.search.ranking import rankers
from raystill.search.ranking.levels import LEVELS, Protocol
from raystill.search.tracking import Children

Make = Callable[..., NasSpec]


def ledger_of(folder: Path) -> Ledger:
    """The ledger of a search that used no curriculum."""
    return Ledger(folder / LEDGER, [ranking.name for ranking in rankings(runs.load_as(NasSpec, folder), None)])


class Halt(Exception):
    """Ends a search as a crash would."""


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_a_searcher_asks_the_same_again_when_told_the_same(searcher: str) -> None:
    first, second = (SEARCHERS[searcher](space("macro"), 5) for _ in range(2))
    for _ in range(9):
        archs = first.ask(8)
        assert [a.text for a in second.ask(8)] == [a.text for a in archs]
        scores = [float(a.parameters((1, 8, 8), 10)) for a in archs]
        first.tell(archs, scores)
        second.tell(archs, scores)


def test_evolution_climbs_further_than_random() -> None:
    def best(name: str) -> float:
        found, searcher = 0.0, SEARCHERS[name](space("cell"), 1)
        for _ in range(15):
            archs = searcher.ask(10)
            scores = [float(sum(op == "conv3" for op in a.genome[:6])) for a in archs]
            searcher.tell(archs, scores)
            found = max(found, *scores)
        return found

    assert best("evolution") == 6 > best("random")


def test_a_search_ends_with_a_trained_network_that_does_what_it_says(tmp_path: Path, small: Make) -> None:
    result = nas(small(tmp_path))
    folder = tmp_path / "nas-1"
    arch, theta = best_network(folder)
    assert arch.text == result["pick"]["architecture"] == max(
        result["retrained"], key=lambda f: f["validation"])["architecture"]  # fmt: skip
    learner = learners.wrap(arch.build((1, 8, 8), 10))
    assert learner.load(torch.tensor(theta)) is learner.module
    page = (folder / "report.html").read_text()
    assert arch.text in page
    assert "<svg" in page
    assert len(ledger_of(folder).rows) == 24
    assert result["costs"]["training_seconds"] > 0


def test_a_replay_computes_every_score_and_retrained_candidate_again(
    tmp_path: Path, small: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    nas(small(tmp_path, candidates=8))
    folder = tmp_path / "nas-1"
    assert command([str(folder)]) == 0
    assert (
        "8 scores computed again: the same\n2 retrained candidates computed again: the same" in capsys.readouterr().out
    )
    result = json.loads((folder / RESULT).read_text())
    result["retrained"][1]["test"] += 1
    (folder / RESULT).write_text(json.dumps(result))
    assert command([str(folder)]) == 1
    assert "1 differ, the first of macro:" in capsys.readouterr().out
    ledger = ledger_of(folder)
    ledger.rows[3]["score"] += 0.01  # what the searcher was told is not what follows from what the rankers said
    tables.write(ledger.path, ledger.rows, schema(ledger.rankers))
    assert command([str(folder)]) == 1
    assert (
        f"8 scores computed again: 1 differ, the first of {ledger.rows[3]['architecture']}" in capsys.readouterr().out
    )
    (folder / RESULT).unlink()
    with pytest.raises(ValueError, match="is not finished"):
        command([str(folder)])


def test_a_search_without_a_replay_says_so(tmp_path: Path) -> None:
    (tmp_path / runs.SPEC).write_text("command: search tune\n")
    with pytest.raises(ValueError, match="a run of `raystill search tune` can not be replayed"):
        command([str(tmp_path)])


def test_a_combined_score_is_the_mean_of_the_trained_rank_and_the_proxies_rank_among_all_so_far(
    tmp_path: Path, small: Make
) -> None:
    result = nas(small(tmp_path))
    rows = ledger_of(tmp_path / "nas-1").rows
    first, *proxies = result["ranker"].split(" + ")
    assert (first, set(proxies)) == ("real", {"synflow", "naswot", "parameters"})

    def expected(known: list[dict[str, Any]]) -> np.ndarray:
        by = {
            name: stats.rankdata([row[name] for row in known]) for name in ("real", "synflow", "naswot", "parameters")
        }
        return (by["real"] + stats.rankdata(by["synflow"] + by["naswot"] + by["parameters"])) / (2 * len(known))

    for end in (8, 16, 24):
        told = [row["score"] for row in rows[end - 8 : end]]
        assert told == pytest.approx(expected(rows[:end])[end - 8 :].tolist())
    assert result["retrained"][0]["score"] == pytest.approx(expected(rows).max())
    assert "curriculum" not in rows[0]
    assert "flops" not in rows[0]


def test_a_single_ranker_s_score_is_what_it_says(tmp_path: Path, small: Make) -> None:
    result = nas(small(tmp_path, ranker="parameters"))
    rows = ledger_of(tmp_path / "nas-1").rows
    assert [row["score"] for row in rows] == [row["parameters"] for row in rows]
    assert result["retrained"][0]["score"] == result["retrained"][0]["parameters"] == max(r["score"] for r in rows)


def shortest(bench: Any, arch: Arch, *rest: Any) -> float:
    """A ranker of a user's own."""
    return -float(len(arch.text))


def test_an_installed_ranker_is_named_like_a_built_in_one(
    tmp_path: Path, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(group: str) -> list[EntryPoint]:
        return [EntryPoint("shortest", f"{__name__}:shortest", group)] if group == "raystill.rankers" else []

    monkeypatch.setattr(registry, "entry_points", installed)
    monkeypatch.setattr(EntryPoint, "load", lambda self: shortest)
    nas(small(tmp_path, ranker="shortest"))
    rows = ledger_of(tmp_path / "nas-1").rows
    assert (
        [row["score"] for row in rows] == [row["shortest"] for row in rows] == [-len(r["architecture"]) for r in rows]
    )
    with pytest.raises(ValueError, match="ranker: unknown 'shortes'; did you mean 'shortest'"):
        nas(small(tmp_path, ranker="shortes"))


def test_a_search_that_was_stopped_ends_as_an_undisturbed_one(
    tmp_path: Path, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = nas(small(tmp_path / "whole"))
    told: list[str] = []

    def stop(self: Any, key: str, *rest: Any) -> None:
        told.append(key)
        if key == "generation 1":
            raise Halt

    with monkeypatch.context() as patch:
        patch.setattr(Children, "write", stop)
        with pytest.raises(Halt):
            nas(small(tmp_path / "cut"))
    assert told == ["generation 0", "generation 1"]
    again = resume(tmp_path / "cut" / "nas-1")
    for key in ("pick", "retrained"):
        kept = [whole[key], again[key]]
        text = json.dumps(kept, default=str)
        assert text
        drop = [[{k: v for k, v in row.items() if k != "cpu_seconds"} for row in (r if isinstance(r, list) else [r])]
                for r in kept]  # fmt: skip
        assert drop[0] == drop[1]
    same = [(tmp_path / place / "nas-1" / LEDGER).read_bytes() for place in ("whole", "cut")]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("changes", "curriculum", "size"),
    [
        ({"data": {"source": "mnist"}}, "recipe:gtn-mnist-14", 14),
        ({"data": {"source": "mnist", "size": 28}}, None, 28),
        ({"data": {"source": "mnist"}, "curriculum": None}, None, None),
        ({"data": {"source": "mnist"}, "curriculum": "runs/mine"}, "runs/mine", None),
        ({"data": {"source": "mnist"}, "ranker": "flops"}, None, None),
        ({"data": {"source": "cifar10"}}, "recipe:gtn-cifar-16", 16),
        ({"data": {"source": "cifar10"}, "space": "cell@c16n2"}, None, None),
        ({"data": {"source": "cifar10"}, "space": "enas"}, None, None),
        ({}, None, None),
    ],
)
def test_without_a_word_of_it_a_search_goes_by_the_recipe_for_its_space_and_data(
    changes: dict[str, Any], curriculum: str | None, size: int | None
) -> None:
    found = with_curriculum(NasSpec.model_validate(changes))
    assert (found.curriculum, found.data.size) == (curriculum, size)


def test_the_page_written_again_keeps_figures_and_costs_and_trains_nothing(
    tmp_path: Path, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = nas(small(tmp_path))
    folder = tmp_path / "nas-1"
    (folder / "report.html").unlink()

    def never(*given: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(retraining, "retrain", never)
    command_module.write_report(folder)
    assert result["pick"]["architecture"] in (folder / "report.html").read_text()
    assert json.loads((folder / RESULT).read_text()) == result
    assert result["costs"]["score_cpu_seconds"] > 0


def test_a_search_killed_among_its_retrained_candidates_keeps_those_that_are_done(
    tmp_path: Path, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = nas(small(tmp_path / "whole", retrain=4))
    write, done = retraining.arrays.write, list[str]()

    def stop(path: Path, *rest: Any) -> None:
        write(path, *rest)
        done.append(path.name)
        if len(done) == 3:
            raise Halt

    with monkeypatch.context() as patch:
        patch.setattr(retraining.arrays, "write", stop)
        with pytest.raises(Halt):
            nas(small(tmp_path / "cut", retrain=4))
    folder = tmp_path / "cut" / "nas-1"
    (folder / "retrained" / done[1]).write_bytes(b"torn")
    before = [row["kind"] for row in commit_log.read(folder / "commits").to_pylist()].count("train_real")
    again = resume(folder)
    for key in ("architecture", "validation", "test", "steps"):
        assert [row[key] for row in again["retrained"]] == [row[key] for row in whole["retrained"]]
    after = [row["kind"] for row in commit_log.read(folder / "commits").to_pylist()].count("train_real")
    assert after - before == 2  # the one that was not reached, and the one whose file is torn
    assert again["costs"]["score_cpu_seconds"] > 0


def test_a_retrained_candidate_whose_weights_become_infinite_is_no_pick_and_stops_nothing(
    tmp_path: Path, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, spoilt = rankers.training.train_network, list[str]()

    def spoil(bench: Any, arch: Any, seed: int, protocol: Any) -> Any:
        numbers, theta = trained(bench, arch, seed, protocol)
        spoilt.append(arch.text)
        return numbers, theta * np.nan if len(spoilt) == 1 else theta

    monkeypatch.setattr(rankers.training, "train_network", spoil)
    result = nas(small(tmp_path))
    assert result["pick"]["architecture"] != spoilt[0]
    assert {row["architecture"] for row in result["retrained"]} == set(spoilt)


def test_retrained_candidates_train_as_the_ground_truth_of_their_space_and_data_does() -> None:
    def protocol(**changes: Any) -> Protocol:
        return retraining.protocol(NasSpec.model_validate(changes))

    cifar = {"source": "cifar10", "size": 16}
    assert protocol(data={"source": "mnist", "size": 14}) == LEVELS["mnist"].protocol
    assert protocol(data=cifar) == LEVELS["cifar"].protocol
    assert protocol(space="cell@c8n3", data=cifar) == LEVELS["cells"].protocol != LEVELS["cifar"].protocol
    assert protocol(data={"source": "cifar10"}) == Protocol(768)
    assert protocol(data=cifar, retrain_steps=9, retrain_lr=0.5) == Protocol(9, lr=0.5)


def test_a_recipe_is_distilled_on_the_data_and_evaluators_of_the_search() -> None:
    run = {"device": "cpu", "workers": 2, "deadline": 30.0, "storage": "s3://bucket/runs", "seed": 4}
    data = {"source": "digits", "limit": 500}
    spec = with_curriculum(NasSpec.model_validate({"curriculum": "recipe:gtn-mnist-14", "data": data, "run": run}))
    assert spec.data.size == 14  # the recipe's, since none was given
    made = distillation(spec, Path("runs/nas-7"))
    assert made.data == spec.data
    assert (made.run.device, made.run.workers, made.run.deadline, made.run.seed) == ("cpu", 2, 30.0, 4)
    assert (made.run.storage, made.run.name) == ("s3://bucket/runs/nas-7", "curriculum")


def test_a_recipe_that_does_not_fit_the_data_is_refused_before_work_starts(tmp_path: Path, small: Make) -> None:
    with pytest.raises(ValueError, match="at least 8x8 pixels, these are 4x4"):
        nas(small(tmp_path, curriculum="recipe:gtn-mnist-14", data={"size": 4}))
    assert not list(tmp_path.glob("nas-*"))


def test_the_best_of_a_generation_outlive_the_next_one() -> None:
    """By a score that only one architecture of the first generation has: its children are a change away."""
    searcher, many = SEARCHERS["evolution"](space("cell"), 2), NasSpec().generation
    first = searcher.ask(many)
    searcher.tell(first, [float(n == 7) for n in range(many)])
    searcher.tell(searcher.ask(many), [0.0] * many)
    apart = [sum(a != b for a, b in zip(child.genome, first[7].genome)) for child in searcher.ask(many)]
    assert sum(n == 1 for n in apart) > 3


def test_a_ledger_of_another_search_is_refused(tmp_path: Path, small: Make) -> None:
    nas(small(tmp_path))
    path = tmp_path / "nas-1" / "spec.yaml"
    path.write_text(path.read_text().replace("searcher: evolution", "searcher: tpe"))
    with pytest.raises(ValueError, match="other architectures than tpe proposes"):
        resume(tmp_path / "nas-1")


def runs_of(store: str) -> tuple[list[Any], list[Any]]:
    """Parents, and children in their order, of a store."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    found = client.search_runs([client.get_experiment_by_name("raystill").experiment_id])
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in found if run not in parents]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {run.info.run_id for run in parents}
    return parents, sorted(children, key=lambda run: run.info.run_name)


def scores_of(store: str, run: Any) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    return [(m.step, m.value) for m in MlflowClient(store).get_metric_history(run.info.run_id, "score")]


def test_mlflow_has_one_parent_and_a_child_for_each_generation_whatever_was_killed(
    tmp_path: Path, small: Make, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Tracker.finish

    def halt(self: Tracker, status: str = "FINISHED") -> bool:
        if len(runs_of(store)[1]) > 1:
            raise Halt  # as a kill between a child's last write and its end
        return finish(self, status)

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "finish", halt)
        with pytest.raises(Halt):
            nas(small(tmp_path, tracking={"uri": store}))
    parents, children_then = runs_of(store)
    assert [run.info.status for run in children_then] == ["FINISHED", "RUNNING"]
    resume(tmp_path / "nas-1")
    parents, children_now = runs_of(store)
    assert len(parents) == 1
    assert [run.info.run_id for run in children_now[:2]] == [run.info.run_id for run in children_then]
    assert [run.info.status for run in (*parents, *children_now)] == ["FINISHED"] * 4
    rows = [(row["index"], row["score"]) for row in ledger_of(tmp_path / "nas-1").rows]
    assert [point for run in children_now for point in scores_of(store, run)] == rows


def test_a_search_by_an_artefact(tmp_path: Path, small: Make, noise: Callable[..., Distilled]) -> None:
    place = save_distilled(tmp_path / "gtn", noise())
    result = nas(small(tmp_path, curriculum=str(place), candidates=8))
    assert 0 <= result["pick"]["score"] <= 1
    with pytest.raises(ValueError, match="1 x 8 x 8, the data are 1 x 12 x 12"):
        nas(small(tmp_path, curriculum=str(place), data={"size": 12}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": "macr"}, "did you mean 'macro'"),
        ({"data": {"size": 4}}, "at least 8x8 pixels, these are 4x4"),
        ({"ranker": "curriculum"}, "give --curriculum"),
        ({"curriculum": "recipe:gtnn"}, "unknown recipe 'gtnn'"),
        ({"curriculum": "nowhere"}, "not an artefact"),
        ({"retrain": 100}, "ask for fewer"),
    ],
)
def test_wrong_inputs_are_one_line(tmp_path: Path, small: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        nas(small(tmp_path, **changes))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("nas-*"))
