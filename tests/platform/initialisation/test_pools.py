"""Pools on disk, and that a start is a function of its address and of nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from raystill.actors import pretrain
from raystill.actors.drive.plan import make_plan
from raystill.platform import learners, runs
from raystill.platform.data import load
from raystill.platform.initialisation import pools, starts
from raystill.platform.seeds import Address
from raystill.platform.spec import DataSpec, DistillSpec, LearnerSpec, PretrainSpec
from raystill.platform.work.problem import resolve_auto
from raystill.platform.work.workbench import Workbench

LEARNER = {"name": "mlp", "width": 8, "depth": 1}


def pool_spec(out: Path, **changes: Any) -> PretrainSpec:
    base = {
        "data": {"limit": 200},
        "learner": LEARNER,
        "members": 5,
        "held_out": 3,
        "epochs": 20,
        "run": {"out": out, "workers": 0, "name": "pool"},
    }
    return PretrainSpec.model_validate({**base, **changes})


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> pools.Pool:
    return pretrain.pretrain(pool_spec(tmp_path_factory.mktemp("pools")))


def run_spec(path: Path | None, **changes: Any) -> DistillSpec:
    return DistillSpec.model_validate(
        {
            "data": {"limit": 200},
            "learner": LEARNER,
            "initialisation": {"kind": "pool", "path": path},
            "validation": {"networks": 3, "images": 30},
            "assess": {"networks": 3},
            "run": {"workers": 0},
            "tracking": {"enabled": False},
            **changes,
        }
    )


def test_a_pool_is_what_its_manifest_says(pool: pools.Pool) -> None:
    assert [pool.count(part) for part in pools.PARTS] == [5, 3, 3]
    found = np.stack([pool.theta(part, n) for part in pools.PARTS for n in range(pool.count(part))])
    assert found.dtype == np.float32
    assert len({row.tobytes() for row in found}) == 11, "members must differ, within parts and between them"
    assert all((pool.accuracy(part) > 0.3).all() for part in pools.PARTS), "better than chance: they were trained"
    spec = pool_spec(pool.path.parent)
    assert pool.about["training"] == {"epochs": 20, "lr": 0.01, "seed": 0}
    assert pool.about["learner"] == spec.learner.model_dump(mode="json")


def test_what_the_manifest_says_of_accuracy_is_true(pool: pools.Pool) -> None:
    data = load(DataSpec(limit=200))
    learner = learners.build(LearnerSpec.model_validate(LEARNER), data.shape, 10)
    x = (torch.from_numpy(data.validation.x) / 255 - data.mean[0]) / data.std[0]
    named = learner.apply(torch.from_numpy(pool.theta("test", 1)), x).argmax(1).numpy()
    assert (named == data.validation.y).mean() == pytest.approx(pool.accuracy("test")[1])


def test_training_validation_and_test_draw_from_parts_that_share_nothing(pool: pools.Pool) -> None:
    start = starts.build(run_spec(pool.path))
    learner = learners.build(LearnerSpec.model_validate(LEARNER), (1, 8, 8), 10)
    parts = {part: {pool.theta(part, n).tobytes() for n in range(pool.count(part))} for part in pools.PARTS}

    def seen(stream: str) -> set[bytes]:
        return {start(learner, Address(0, 0, s, m, stream)).numpy().tobytes() for s in range(8) for m in range(4)}

    assert seen("") == parts["train"], "every member of the train part is drawn sooner or later"
    assert seen("validate") == parts["validation"]
    assert seen("assess") == parts["test"]


def test_a_start_is_a_function_of_its_address(pool: pools.Pool) -> None:
    learner = learners.build(LearnerSpec.model_validate(LEARNER), (1, 8, 8), 10)
    one, two = (starts.build(run_spec(pool.path)) for _ in range(2))
    for member in range(6):
        address = Address(3, 0, 7, member)
        assert torch.equal(one(learner, address), two(learner, address))
    drawn = [one(learner, Address(3, 0, s, 0)).numpy().tobytes() for s in range(20)]
    other = [one(learner, Address(4, 0, s, 0)).numpy().tobytes() for s in range(20)]
    assert drawn != other


def test_the_same_spec_gives_the_same_bytes(pool: pools.Pool, tmp_path: Path) -> None:
    again = pretrain.pretrain(pool_spec(tmp_path))
    assert again.content == pool.content, "the manifest holds the sha256 of every file"


def test_a_killed_pretraining_goes_on_and_trains_nothing_twice(
    pool: pools.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    written: list[str] = []
    write = pretrain.write_whole

    def stop(path: Path, content: Any) -> None:
        if len(written) == 4:
            raise Stop
        written.append(path.name)
        write(path, content)

    monkeypatch.setattr(pretrain, "write_whole", stop)
    with pytest.raises(Stop):
        pretrain.pretrain(pool_spec(tmp_path))
    with pytest.raises(ValueError, match=r"is no finished pool; go on with it: raystill resume"):
        pools.open_pool(tmp_path / "pool")
    (tmp_path / "pool" / "train" / "0001.safetensors").write_bytes(b"torn")
    written.clear()
    monkeypatch.setattr(
        pretrain, "write_whole", lambda path, content: (written.append(path.name), write(path, content))
    )
    pretrain.resume(tmp_path / "pool")
    assert len(written) == 11 - 3 + 1, "the networks that were not there or torn, and the manifest"
    assert pools.open_pool(tmp_path / "pool").content == pool.content


def test_weights_of_another_spec_are_not_taken_for_ones_own(pool: pools.Pool) -> None:
    data = (pool.path / pools.file_of("train", 0)).read_bytes()
    own = runs.load_as(PretrainSpec, pool.path)
    assert pools.facts_of(data, own.identity) is not None
    assert pools.facts_of(data, own.model_copy(update={"epochs": 21}).identity) is None
    assert pools.facts_of(data, own.model_copy(update={"members": 50}).identity) is not None, "a pool can grow"
    for torn in (b"", data[:100], data[:-4]):
        assert pools.facts_of(torn, own.identity) is None


def test_a_run_from_a_pool_meets_its_networks(pool: pools.Pool) -> None:
    made = make_plan(run_spec(pool.path))
    assert made.spec.initialisation.content == pool.content
    bench = Workbench(resolve_auto(made.spec, "cpu"), None, made.data)
    learner = bench.problem(made.spec.learner).learner
    expected = pool.theta("test", 2)
    assert np.array_equal(bench.theta0(learner, Address(1, member=2, stream="assess")).numpy(), expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learner": {**LEARNER, "width": 9}}, r"networks name mlp, width 8, depth 1, but the run's learner is .*9"),
        ({"learner": {"name": "linear"}}, r"networks name mlp, .* but the run's learner is name linear"),
        ({"data": {"size": 12}}, r"networks for images of 1 x 8 x 8, these are 1 x 12 x 12; set data\.size"),
        ({"assess": {"networks": 4}}, r"assess\.networks: 4, but the pool .* has 3 held-out networks for test"),
        ({"validation": {"networks": 9}}, r"validation\.networks: 9, but .* has 3 held-out networks for validation"),
    ],
)  # fmt: skip
def test_a_pool_that_does_not_fit_is_refused_in_one_line(pool: pools.Pool, changes: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        make_plan(run_spec(pool.path, **changes))
    assert "\n" not in str(error.value)


def test_a_pool_for_other_classes_is_refused(pool: pools.Pool) -> None:
    y = np.arange(60) % 3
    x = np.zeros((60, 8, 8), np.uint8) + (80 * y[:, None, None]).astype(np.uint8)
    from raystill.platform.data import Raw

    own = {"sources": {"three": lambda spec: Raw({"train": (x, y)}, ["ape", "bee", "cow"])}}
    with pytest.raises(ValueError, match=r"for the classes 0, 1, 2, 3, \.\.\. \(10\), the data has ape, bee, cow"):
        make_plan(run_spec(pool.path, data={"source": "three"}), own)


def test_classes_are_the_same_by_name_or_where_a_source_has_none() -> None:
    assert pools.same_classes(["0", "1"], ["0", "1"])
    assert pools.same_classes(["0 - zero", "1 - one"], ["0", "1"])
    assert not pools.same_classes(["cat", "dog"], ["dog", "cat"])
    assert not pools.same_classes(["0", "1"], ["0", "1", "2"])


def test_no_pool_a_torn_one_and_a_changed_network_are_told(pool: pools.Pool, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"initialisation\.path: .*none is no pool; make one: raystill pretrain"):
        make_plan(run_spec(tmp_path / "none"))
    copy = tmp_path / "copy"
    for file in pool.path.rglob("*"):
        if file.is_file():
            (copy / file.relative_to(pool.path)).parent.mkdir(parents=True, exist_ok=True)
            (copy / file.relative_to(pool.path)).write_bytes(file.read_bytes())
    weights = copy / "train" / "0000.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match=r"train/0000\.safetensors: sha256 does not match"):
        pools.open_pool(copy).theta("train", 0)
    weights.unlink()
    with pytest.raises(ValueError, match=r"train/0000\.safetensors"):
        pools.open_pool(copy).theta("train", 0)
    about = json.loads((copy / pools.MANIFEST).read_text())
    for wrong in ({**about, "format": "raystill.pool/9"}, {**about, "parts": {}}, [], {**about, "learner": 3}):
        (copy / pools.MANIFEST).write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=r"pool\.json is malformed"):
            pools.open_pool(copy)


def test_a_run_refuses_another_pool_than_it_was_planned_with(pool: pools.Pool, tmp_path: Path) -> None:
    made = make_plan(run_spec(pool.path))
    other = pretrain.pretrain(pool_spec(tmp_path, run={"out": tmp_path, "workers": 0, "name": "pool", "seed": 7}))
    told = made.spec.initialisation.model_copy(update={"path": other.path})
    with pytest.raises(ValueError, match="is another pool than this run was planned with"):
        starts.build(made.spec.model_copy(update={"initialisation": told}))


def test_one_pretrained_network_from_a_pool_or_a_file_of_weights(pool: pools.Pool, tmp_path: Path) -> None:
    learner = learners.build(LearnerSpec.model_validate(LEARNER), (1, 8, 8), 10)
    expected = pool.theta("train", 2)
    state = learner.load(torch.from_numpy(expected)).state_dict()
    flat, named = tmp_path / "flat.safetensors", tmp_path / "named.safetensors"
    flat.write_bytes(safetensors.numpy.save({"theta0": expected}))
    safetensors.torch.save_file(state, named)
    for told in ({"path": pool.path, "member": 2}, {"path": flat}, {"path": named}):
        made = make_plan(run_spec(None, initialisation={"kind": "pretrained", **told}))
        assert made.spec.initialisation.content
        for stream in ("", "validate", "assess"):
            assert np.array_equal(starts.build(made.spec)(learner, Address(5, 1, 2, 3, stream)).numpy(), expected)
    safetensors.torch.save_file({k: v for k, v in state.items() if "weight" in k}, named)
    with pytest.raises(ValueError, match=r"named\.safetensors has no .*bias of shape"):
        make_plan(run_spec(None, initialisation={"kind": "pretrained", "path": named}))
    named.write_bytes(b"no such thing")
    with pytest.raises(ValueError, match=r"named\.safetensors is no safetensors file"):
        make_plan(run_spec(None, initialisation={"kind": "pretrained", "path": named}))
    with pytest.raises(ValueError, match=r"initialisation\.member: 5, but the pool has 5 networks"):
        make_plan(run_spec(None, initialisation={"kind": "pretrained", "path": pool.path, "member": 5}))


def test_a_path_goes_with_the_kinds_that_read_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^initialisation\.kind: pool needs initialisation\.path"):
        make_plan(run_spec(None))
    with pytest.raises(ValueError, match=r"^initialisation\.kind: random takes no initialisation\.path"):
        make_plan(run_spec(None, initialisation={"kind": "random", "path": tmp_path}))
    with pytest.raises(ValueError, match=r"^initialisation\.kind: unknown 'Fixed'; did you mean 'fixed'"):
        make_plan(run_spec(None, initialisation={"kind": "Fixed"}))


def test_ones_own_initialisation_has_settings_and_says_what_it_is() -> None:
    def constant(spec: DistillSpec, value: float = 0.5) -> starts.Initialisation:
        return starts.Initialisation(lambda learner, address: torch.full((learner.size,), value), single=True)

    def small(spec: DistillSpec) -> starts.Start:
        return lambda learner, address: 0.1 * starts.fresh(learner, address)

    plugins = {"initialisations": {"constant": constant, "small": small}}
    learner, address = learners.build(LearnerSpec.model_validate(LEARNER), (1, 8, 8), 10), Address(3)
    made = make_plan(run_spec(None, initialisation={"kind": "constant(value=2)"}), plugins)
    assert made.spec.initialisation.single
    assert torch.equal(starts.build(made.spec, plugins)(learner, address), torch.full((learner.size,), 2.0))
    made = make_plan(run_spec(None, initialisation={"kind": "small"}), plugins)
    assert made.spec.initialisation.single is False
    expected = 0.1 * starts.fresh(learner, address)
    assert torch.equal(starts.build(made.spec, plugins)(learner, address), expected)
