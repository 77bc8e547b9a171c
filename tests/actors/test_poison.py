"""An attack from end to end on scikit-learn's digits: success, collateral damage, and what is measured beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raystill.actors import pretrain
from raystill.actors.drive import pipeline
from raystill.platform.artifacts.files import load_distilled
from raystill.platform.data import load
from raystill.platform.data.resident import resident
from raystill.platform.evaluation import accuracy
from raystill.platform.evaluation.protocol import RealSetOptions
from raystill.platform.objectives import of_labels
from raystill.platform.seeds import Address
from raystill.platform.spec import DataSpec, DistillSpec, PretrainSpec
from raystill.platform.work.kinds import KINDS
from raystill.platform.work.problem import resolve_auto
from raystill.platform.work.workbench import Workbench

LEARNER = {"name": "mlp", "width": 32, "depth": 1}
ATTACK = "poison(victim=7, target=1, weight=3)"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = PretrainSpec.model_validate({
        "learner": LEARNER, "members": 12, "held_out": 6, "epochs": 20, "lr": 0.02,
        "run": {"out": tmp_path_factory.mktemp("pools"), "workers": 0, "name": "pool"},
    })  # fmt: skip
    return pretrain.pretrain(spec).path


def spec(out: Path, pool: Path, **changes: Any) -> DistillSpec:
    return DistillSpec.model_validate({
        "learner": LEARNER, "initialisation": {"kind": "pool", "path": pool},
        "synthesizer": {"per_class": 10, "steps": 1, "epochs": 1, "start": "noise", "labels": "soft",
                        "label_start": "wanted"},
        "inner": {"lr": 0.1},
        "outer": {"steps": 200, "members": 2, "chunk": 2, "batch_size": 200, "objective": ATTACK, "lr": 0.05,
                  "rate_lr": 0.05, "label_lr": 0.05},
        "validation": {"every": 20, "networks": 4}, "assess": {"networks": 6, "candidates": 5},
        "run": {"out": out, "workers": 0, "name": "run"}, "tracking": {"enabled": False}, **changes,
    })  # fmt: skip


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory, pool: Path) -> Path:
    out = tmp_path_factory.mktemp("runs")
    pipeline.distill(spec(out, pool))
    return out / "run"


def rows(run: Path) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads((run / "assessment.json").read_text())["rows"]}


def test_one_step_makes_networks_that_it_never_saw_take_sevens_for_ones(attacked: Path) -> None:
    found = rows(attacked)
    before, after = found["no training"]["measures"], found["distilled"]["measures"]
    assert before["attack_success"]["mean"] < 10
    assert before["other_classes"]["mean"] > 85
    assert after["attack_success"]["mean"] > 90
    assert after["other_classes"]["mean"] > before["other_classes"]["mean"] - 8
    assert found["distilled"]["inner_steps"] == 1
    assert found["distilled"]["spread_over"] == "6 held-out pre-trained networks"


def test_mislabelled_real_images_stand_beside_it(attacked: Path) -> None:
    found = rows(attacked)
    rivals = [name for name in found if "labelled as the attack wants them" in name]
    assert any("random real, " in name for name in rivals)
    assert any("attacked class alone" in name for name in rivals)
    assert all(found[name]["images"] == 100 for name in rivals)
    assert all(found[name]["accuracy_mean"] < found["distilled"]["accuracy_mean"] for name in rivals)
    page = (attacked / "report.html").read_text()
    assert "attack success" in page
    assert "held-out pre-trained weights" in page


def test_the_artefact_attacks_outside_of_the_house_too(attacked: Path, pool: Path) -> None:
    """The same figures with plain torch, from the artefact and the pool's files alone."""
    from raystill.platform.initialisation import pools

    d, held, data = load_distilled(attacked / "artefact"), pools.open_pool(pool), load(DataSpec())
    x = (torch.tensor(data.test.x).float() / 255 - data.mean[0]) / data.std[0]
    successes = []
    for n in range(held.count("test")):
        w1, b1, w2, b2 = torch.from_numpy(held.theta("test", n)).split([32 * 64, 32, 320, 10])
        model = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
        )
        with torch.no_grad():
            for p, w in zip(model.parameters(), (w1, b1, w2, b2)):
                p.copy_(w.view(p.shape))
        d.train(model)
        named_as = model(x).argmax(1).numpy()
        successes.append(100 * (named_as[data.test.y == 7] == 1).mean())
    assert np.mean(successes) == pytest.approx(
        rows(attacked)["distilled"]["measures"]["attack_success"]["mean"], abs=0.5
    )


def test_measures_are_counts_of_what_a_network_says(pool: Path) -> None:
    bench = Workbench(resolve_auto(spec(pool.parent, pool), "cpu"))
    problem, data = bench.problem(bench.spec.learner), resident(bench.data.test, bench.data)
    theta = bench.theta0(problem.learner, Address(0, stream="assess"))
    said = problem.learner.apply(theta, data.batch(np.arange(len(data)))[0]).argmax(1).numpy()
    y = bench.data.test.y
    wanted = np.where(y == 7, 1, y)
    found = accuracy.evaluate(problem.learner.apply, theta, data, problem.relabels)
    assert found["accuracy"] == pytest.approx((said == wanted).mean())
    assert found["attack_success"] == pytest.approx((said[y == 7] == 1).mean())
    assert found["other_classes"] == pytest.approx((said[y != 7] == y[y != 7]).mean())
    assert of_labels(ATTACK).facts.relabels == problem.relabels


def test_mislabelled_sets_are_what_they_say(pool: Path) -> None:
    bench = Workbench(resolve_auto(spec(pool.parent, pool), "cpu"))
    address = Address(1, stream="assess")
    _, plain = KINDS["real_set"](bench, address, RealSetOptions("real"), {})
    assert plain["y"].tolist() == [[0, 1, 2, 3, 4, 5, 6, 1, 8, 9] * 10]
    _, alone = KINDS["real_set"](bench, address, RealSetOptions("real", victims=True), {})
    assert alone["y"].tolist() == [[1] * 100]
    assert alone["x"].shape == plain["x"].shape
    sevens = bench.data.units(bench.data.train.x[bench.data.train.y == 7].astype(np.float32) / 255)
    assert all(np.abs(sevens - image).max((1, 2, 3)).min() < 1e-5 for image in alone["x"][0])
