"""A user's own parts, by callable and by entry point of a package that lies elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raystill.platform.data import DataSet, Split, load
from raystill.platform.meta import MetaGradient, Optimiser, Steps, differentiated
from raystill.platform.meta.estimators import unroll
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import DistillSpec
from raystill.platform.synthesis import Synthesizer
from raystill.platform.work.kinds import KINDS
from raystill.platform.work.meta_gradient import MetaGradientOptions
from raystill.platform.work.problem import resolve_auto
from raystill.platform.work.workbench import Workbench

PACKAGE = '''
import numpy as np
import torch
from torch import nn

from raystill.platform.data import Portion, Raw
from raystill.platform.meta import Steps
from raystill.platform.synthesis import Synthesizer


def network(shape, classes, width, depth):
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), classes))


def absolute(step):
    rows = nn.functional.one_hot(step.y, step.student.logits.shape[1])
    return (step.student.logits - rows).square().sum(1).sqrt()


def scaled(spec, shape, classes, relabels, start=1.0):
    """One learned brightness for fixed images."""
    def steps(meta, address):
        x = meta["brightness"] * torch.ones(spec.unroll, classes, *shape)
        return Steps(x, torch.arange(classes).expand(spec.unroll, -1), {"lr": torch.full((spec.unroll,), 0.1)})

    begin = lambda data, address: {"brightness": np.full(1, start, np.float32)}
    return Synthesizer(lambda data: None, begin, steps, np.zeros(spec.unroll, np.int64), {"brightness": "lr"})


def stripes(spec):
    x = np.zeros((60, 4, 4), np.uint8)
    x[::2, ::2], x[1::2, :, ::2] = 200, 200
    y = np.arange(60) % 2
    return Raw({"train": Portion(x[:40], y[:40]), "test": Portion(x[40:], y[40:])}, ["rows", "columns"])
'''
POINTS = """
[raystill.learners]
elsewhere-network = elsewhere_parts:network
[raystill.objectives]
elsewhere-absolute = elsewhere_parts:absolute
[raystill.synthesizers]
elsewhere-scaled = elsewhere_parts:scaled
[raystill.sources]
elsewhere-stripes = elsewhere_parts:stripes
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package outside the repository, as pip would leave it."""
    site = tmp_path / "site"
    info = site / "elsewhere_parts-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "elsewhere_parts.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere-parts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    assert not site.is_relative_to(Path(__file__).parents[2])
    monkeypatch.syspath_prepend(str(site))
    yield site
    sys.modules.pop("elsewhere_parts", None)


@pytest.fixture
def data() -> DataSet:
    rng = numpy_rng(Address(0, stream="pixels"))
    split = Split(rng.integers(0, 256, (30, 1, 4, 4), np.uint8), np.arange(30) % 2)
    return DataSet("made", ("a", "b"), split, split, split, (0.5,), (0.25,), "0" * 64)


def gradient(bench: Workbench) -> dict[str, np.ndarray]:
    meta = bench.synthesizer.start(bench.data, Address(0, stream="start"))
    return KINDS["meta_gradient"](bench, Address(0), MetaGradientOptions(2), meta)[1]


def spec(**sections: Any) -> DistillSpec:
    return resolve_auto(DistillSpec.model_validate({"outer": {"batch_size": 20}, **sections}), "cpu")


def test_a_package_elsewhere_brings_every_kind_of_part(installed: Path, tmp_path: Path) -> None:
    given = spec(
        data={"source": "elsewhere-stripes", "validation": 0.25, "cache": str(tmp_path / "cache")},
        learner={"name": "elsewhere-network"},
        inner={"objective": "elsewhere-absolute"},
        synthesizer={"kind": "elsewhere-scaled(start=0.5)"},
    )
    bench = Workbench(given, None, load(given.data))
    assert bench.data.classes == ("rows", "columns")
    assert bench.problem(given.learner).learner.size == 16 * 2 + 2
    found = gradient(bench)
    assert set(found) == {"brightness"}
    assert found["brightness"].shape == (1,)
    assert found["brightness"].any()
    assert bench.synthesizer.start(bench.data, Address(0))["brightness"] == 0.5
    assert Path(sys.modules["elsewhere_parts"].__file__ or "").parent == installed


def test_a_name_that_no_package_brings_any_more_lists_what_there_is(data: DataSet) -> None:
    with pytest.raises(ValueError, match=r"synthesizer\.kind: unknown 'elsewhere-scaled'; valid: generator, images"):
        Workbench(spec(synthesizer={"kind": "elsewhere-scaled"}), None, data)


def test_a_callable_in_python_is_enough(data: DataSet) -> None:
    """Against the same parts' own formula: one step of lr on x = b, judged by the mean logit of class 0."""

    def network(shape: Any, classes: int, width: int | None, depth: int | None) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, classes, bias=False))

    def first_logit(step: Any) -> torch.Tensor:
        return step.student.logits[:, 0]

    def halves(spec: DistillSpec, shape: Any, classes: int, relabels: Any) -> Synthesizer:
        def steps(meta: Any, address: Address) -> Steps:
            x = meta["half"][None, None].expand(1, 2, 1, 4, 4)
            return Steps(x, torch.arange(2)[None], {"lr": torch.full((1,), 0.5)})

        begin = {"half": np.full((1, 4, 4), 0.5, np.float32)}
        return Synthesizer(lambda data: None, lambda data, at: begin, steps, np.zeros(1, np.int64), {"half": "lr"})

    plugins = {
        "learners": {"own": network},
        "objectives": {"own": first_logit},
        "synthesizers": {"own": halves},
    }
    given = spec(
        learner={"name": "own"},
        inner={"objective": "own"},
        outer={"objective": "own", "batch_size": 30},
        synthesizer={"kind": "own", "epochs": 1},
    )
    bench = Workbench(given, plugins, data)
    # theta_1 = theta_0 - lr half, so d outer loss / d half = -lr mean(real), for each of two members
    real = (data.train.x.astype(np.float64) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(gradient(bench)["half"], -2 * 0.5 * real.mean(0), rtol=1e-4, atol=1e-6)


def test_a_callers_part_takes_the_place_of_a_built_in_one(data: DataSet) -> None:
    def tiny(shape: Any, classes: int, width: int | None, depth: int | None) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, classes, bias=False))

    given = spec(learner={"name": "mlp"})
    assert Workbench(given, {"learners": {"mlp": tiny}}, data).problem(given.learner).learner.size == 32
    assert Workbench(given, None, data).problem(given.learner).learner.size > 32


def test_ones_own_estimator_and_inner_optimiser_make_the_meta_gradient(data: DataSet) -> None:
    """The estimator scales an unroll's answer, and the optimiser takes steps of `times` the rate."""

    def scaled(bench: Any, steps: Steps, addresses: Any, by: float = 1.0) -> list[MetaGradient]:
        return [m._replace(steps=m.steps.map(lambda z: by * z)) for m in unroll(bench, steps, addresses)]

    def fast(times: float) -> Optimiser:
        return differentiated(lambda theta: (theta,), lambda state, g, hyper: (state[0] - times * hyper["lr"] * g,))

    plugins = {"estimators": {"scaled": scaled}, "inner_optimisers": {"fast": fast}}
    inner = {"learn_lr": False, "lr": 0.1}
    usual = gradient(Workbench(spec(learner={"name": "linear"}, inner={**inner, "lr": 0.2}), None, data))
    given = spec(
        learner={"name": "linear"}, meta={"estimator": "scaled(by=3)"}, inner={**inner, "optimiser": "fast(times=2)"}
    )
    found = gradient(Workbench(given, plugins, data))
    np.testing.assert_allclose(found["images"], 3 * usual["images"], rtol=1e-4, atol=1e-7)
    with pytest.raises(ValueError, match=r"^meta\.estimator: unknown 'scaled'"):
        Workbench(given, None, data)
