"""Ground truth: its architectures, its training, its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raystill.platform import learners
from raystill.platform.architectures import parse
from raystill.platform.data import load
from raystill.platform.files import tables
from raystill.platform.recipes import recipe
from raystill.platform.seeds import Address
from raystill.platform.spec import DataSpec, DistillSpec
from raystill.platform.work.problem import resolve_auto
from raystill.platform.work.workbench import Workbench
from raystill.search.ranking import ground_truth, training
from raystill.search.ranking.ground_truth import train_missing
from raystill.search.ranking.levels import LEVELS, Level, Protocol, level, sample
from raystill.search.ranking.training import batches


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
    arch, protocol = parse("macro:d1-w4-x1-k3-max-group-relu-fc"), Protocol(9, batch=32)
    problem = bench.problem_of(learners.wrap(arch.build((1, 8, 8), 10)))
    address = training.address_of(arch, 4)
    *on_the_way, end = training.fit(problem.learner, bench.train, address, protocol, (2, 7))
    (straight,) = training.fit(problem.learner, bench.train, address, protocol)
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


def test_a_table_goes_on_where_it_was_and_refuses_another_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: Level
) -> None:
    path = tmp_path / "t.parquet"
    assert train_missing("digits", path, "command", lambda _: None, [0]) == 6
    whole = tables.read(path, ground_truth.SCHEMA, ground_truth.KIND)
    ground_truth.save(path, whole[:4], "command")
    assert train_missing("digits", path, "command", lambda _: None, [0]) == 2
    again = tables.read(path, ground_truth.SCHEMA, ground_truth.KIND)
    drop = [[{k: v for k, v in r.items() if k != "cpu_seconds"} for r in t] for t in (whole, again)]
    assert drop[0] == drop[1]
    other = Level(short.space, short.data, short.count, short.seeds, Protocol(16))
    monkeypatch.setitem(LEVELS, "digits", other)
    with pytest.raises(ValueError, match="rows of another protocol"):
        train_missing("digits", path, "command", lambda _: None, [0])


def test_a_seed_that_is_under_way_counts_once_it_has_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: Level
) -> None:
    path = tmp_path / "t.parquet"
    train_missing("digits", path, "command", lambda _: None)
    rows = tables.read(path, ground_truth.SCHEMA, ground_truth.KIND)
    ground_truth.save(path, rows[:8], "command")
    assert ground_truth.load(path).test.shape == (6, 1)
    monkeypatch.setattr(ground_truth, "ENOUGH", 2)
    assert np.isnan(ground_truth.load(path).test).sum() == 4
    ground_truth.save(path, rows[:5] + rows[7:12], "command")
    with pytest.raises(ValueError, match="no seed has all of its 6"):
        ground_truth.load(path)


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
