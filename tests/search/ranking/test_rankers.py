"""Rankers against what they should agree with; the kind of work item that carries them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from raystill.platform import learners
from raystill.platform.architectures import parse
from raystill.platform.architectures.proxies import PROXIES
from raystill.platform.artifacts.files import Distilled
from raystill.platform.data import load
from raystill.platform.seeds import Address
from raystill.platform.spec import DataSpec, TrackingSpec
from raystill.platform.spec import RunSpec as Run
from raystill.platform.work.problem import resolve_auto
from raystill.platform.work.workbench import Workbench
from raystill.search.ranking import evaluators
from raystill.search.ranking.evaluators import host_spec
from raystill.search.ranking.levels import Protocol
from raystill.search.ranking.rankers import RANKERS, RankerOptions, ScoreOptions, score
from raystill.search.ranking.scoring import Ranking, check_fit

TEXTS = ("macro:d1-w4-x1-k3-max-group-relu-fc", "macro:d2-w8-x2-k3-stride-none-tanh-gap")


@pytest.fixture(scope="module")
def bench() -> Workbench:
    spec = resolve_auto(host_spec(DataSpec(), Run(workers=0), TrackingSpec(enabled=False)), "cpu")
    return Workbench(spec, None, load(spec.data))


def numbers(bench: Workbench, ranking: Ranking, texts: tuple[str, ...] = TEXTS) -> dict[str, float]:
    options = ScoreOptions(texts, ranking.ranker, ranking.full)
    found, arrays = score(bench, Address(3, stream="anything"), options, ranking.arrays)
    assert not arrays
    return found


def test_the_curriculum_ranker_is_the_artefacts_own_training(bench: Workbench, noise: Callable[..., Distilled]) -> None:
    d, arch = noise(), parse(TEXTS[0])
    found = numbers(bench, Ranking("noise", "curriculum", RankerOptions(limit=100), d))
    learner = learners.wrap(arch.build((1, 8, 8), 10))
    network = d.train(learner.load(learner.init(Address(3, stream=f"rank/{arch.key}"))))
    rows = np.arange(100) * len(bench.validation) // 100
    x, y = bench.validation.batch(rows)
    with torch.no_grad():
        assert found["0"] == pytest.approx(float((network(x).argmax(1) == y).float().mean()))


@pytest.mark.parametrize("name", RANKERS)
def test_a_score_depends_neither_on_its_batch_nor_on_who_computes_it(
    name: str, bench: Workbench, noise: Callable[..., Distilled]
) -> None:
    options = RankerOptions(limit=50, protocol=Protocol(4, 16) if name == "real" else None)
    ranking = Ranking(name, name, options, noise() if name == "curriculum" else None)
    both = numbers(bench, ranking)
    assert np.isfinite(list(both.values())).all()
    assert both["1"] == numbers(bench, ranking, TEXTS[1:])["0"]


def test_proxies_are_those_of_the_proxies_file_at_the_same_network(bench: Workbench) -> None:
    arch = parse(TEXTS[0])
    learner = learners.wrap(arch.build((1, 8, 8), 10))
    network = learner.load(learner.init(Address(3, stream=f"rank/{arch.key}")))
    x, y = bench.train.batch(np.arange(4))
    assert numbers(bench, Ranking("synflow", "synflow"))["0"] == pytest.approx(PROXIES["synflow"](network, x, y))
    assert numbers(bench, Ranking("parameters", "parameters"))["0"] == learner.size


def test_a_subset_has_so_many_images_of_each_class(bench: Workbench) -> None:
    from raystill.search.ranking.rankers import subset

    labels = bench.train.y[subset(bench, 3)].tolist()
    assert sorted(labels) == sorted(list(range(10)) * 3)


def test_a_curriculum_of_another_shape_or_class_count_is_refused_in_one_line(noise: Callable[..., Distilled]) -> None:
    data = load(DataSpec())
    check_fit(noise(), data, "here")
    with pytest.raises(ValueError, match=r"here has images of 3 x 8 x 8, the data are 1 x 8 x 8"):
        check_fit(noise((3, 8, 8)), data, "here")
    with pytest.raises(ValueError, match=r"here has 7 classes, the data have 10"):
        check_fit(noise(classes=7), data, "here")


def test_a_plan_checks_its_curriculum(noise: Callable[..., Distilled]) -> None:
    with pytest.raises(ValueError, match="1 x 6 x 6"):
        evaluators.planned(DataSpec(), Run(workers=0), TrackingSpec(enabled=False), noise((1, 6, 6)), "gtn")
