"""Shards of the parameter server: the same bits for any number of them, wherever they are and whichever is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raystill.actors.drive import coordinator, pipeline, replay
from raystill.actors.fleet import ray_executor
from raystill.actors.record import commit_log
from raystill.actors.server import backends, checkpoints
from raystill.actors.server.backends import InProcessBackend, ServerLost
from raystill.actors.server.shards import Handle, Shards, split
from raystill.platform import cli, seeds
from raystill.platform.files.storage import Storage
from raystill.platform.outer.blocks import BLOCK, Cut
from raystill.platform.spec import DistillSpec, OuterSpec
from tests.actors.test_cluster import digest, spec

SHAPES = {"fixed": (5,), "images": (2, BLOCK + 3), "labels": (40, 10), "lr": (6,)}
GROUPS = {"images": "lr", "labels": "label_lr", "lr": "rate_lr"}
OUTER: dict[str, Any] = {"steps": 9, "ema": 0.9, "clip": 0.5, "clip_relative": 1.2, "delay": 2}


def draw(stream: str) -> dict[str, np.ndarray]:
    rng = seeds.numpy_rng(seeds.Address(0, stream=stream))
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def server(count: int, **changes: Any) -> Shards:
    return Shards(InProcessBackend(OuterSpec(shards=count, **{**OUTER, **changes}), GROUPS), count)


def work(one: Shards, steps: range) -> list[dict[str, Any]]:
    """Steps from two chunks each; the figures that they gave."""
    found = []
    for step in steps:
        cut = Cut(tuple((name, SHAPES[name]) for name in sorted(SHAPES)), one.version(step).cut.shards)  # type: ignore[union-attr]
        chunks = [{k: v * 10 ** (step % 3) for k, v in draw(f"{step}/{m}").items() if k in GROUPS} for m in range(2)]
        applied, _ = one.apply(0, step, 4, [Handle(split(cut, chunk), cut) for chunk in chunks])
        found.append(applied())
    return found


def content(one: Shards, version: int) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in one.fetch(one.version(version)).items()}


@pytest.mark.parametrize("changes", [{}, {"clip_relative": None}, {"clip": None}])
def test_any_number_of_shards_makes_the_same_bits(changes: dict[str, Any]) -> None:
    alone = server(1, **changes)
    alone.init(draw("start"))
    figures = work(alone, range(6))
    mean = [sum(draw(f"0/{m}")[k].astype(np.float64) for m in range(2)) / 4 for k in GROUPS]
    if "clip_relative" in changes:
        assert figures[0]["gradient_norm"] == pytest.approx(np.sqrt(sum((g**2).sum() for g in mean)), rel=1e-12)
    assert figures[0]["bytes"] == 4 * sum(np.prod(shape) for shape in SHAPES.values())
    for count in range(2, 7):  # up to as many as there are blocks
        several = server(count, **changes)
        several.init(draw("start"))
        assert work(several, range(6)) == figures
        assert all(content(several, v) == content(alone, v) for v in (4, 5, 6))
        assert several.fetch(several.snapshot())["images"].shape == SHAPES["images"]
    with pytest.raises(ValueError, match=r"outer\.shards: 8 shards, .* take 1 to 6"):
        server(8).init(draw("start"))


def test_a_gradient_that_is_not_finite_stops_all_shards_alike() -> None:
    one = server(3, clip_relative=None)
    cut = one.init(draw("start")).cut
    chunk = {**draw("0/0"), "lr": np.full(6, np.inf, np.float32)}
    with pytest.raises(FloatingPointError, match="outer step 0 is not finite"):
        one.apply(0, 0, 1, [Handle(split(cut, chunk), cut)])[0]()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_checkpoint_of_three_shards_serves_any_number(tmp_path: Path, count: int) -> None:
    three = server(3)
    three.init(draw("start"))
    work(three, range(4))
    three.snapshot()
    three.save(str(tmp_path), "step-00000004.0", {"spec": "mine"}, 3)
    work(three, range(4, 6))
    (done,) = three.saved(wait=True)
    assert (done["name"], done["step"], done["error"]) == ("step-00000004.0", 4, "")
    assert three.saved(wait=True) == []
    other = server(count)
    assert other.restore(str(tmp_path), "step-00000004.0", "mine")["unscored"] == [4]
    assert content(other, 2) == content(other, 2) != content(other, 3)
    work(other, range(4, 6))
    assert all(content(other, v) == content(three, v) for v in (4, 5, 6))
    other.score(4, 80.0, 1.0)
    assert other.best_score() == {"step": 4, "accuracy": 80.0, "spread": 1.0, "attempt": 0}


def test_one_part_that_fails_fails_the_checkpoint(tmp_path: Path) -> None:
    three = server(3)
    three.init(draw("start"))
    three.save(str(tmp_path), "step-00000000.0", {}, 3, "full")
    (done,) = three.saved(wait=True)
    assert "No space left" in done["error"]
    assert checkpoints.newest(Storage(tmp_path)) is None
    assert not (tmp_path / "LATEST").exists()


def test_a_lost_shard_is_a_lost_server() -> None:
    three = server(3)
    three.init(draw("start"))
    three.kill_one()
    with pytest.raises(ServerLost):
        three.version(0)
    three.restart()
    three.init(draw("start"))
    assert len(work(three, range(1))) == 1


def cut(out: Path, workers: int, shards: int, *faults: str, **outer: Any) -> DistillSpec:
    """Images of two blocks, and two more blocks of rates and momenta."""
    made = spec(out, workers, shards=shards, delay=1, clip_relative=1.2, **outer)
    return made.model_copy(
        update={
            "synthesizer": made.synthesizer.model_copy(update={"per_class": 20}),
            "run": made.run.model_copy(update={"faults": faults}),
        }
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("undisturbed")
    pipeline.distill(cut(out, 0, 1))
    return digest(out / "run-1" / "artefact")


def test_the_number_of_shards_is_no_part_of_a_run_s_identity(tmp_path: Path) -> None:
    assert cut(tmp_path, 0, 1).identity == cut(tmp_path, 0, 3).identity


@pytest.mark.parametrize("shards", [2, 3])
def test_shards_change_no_byte_of_a_run_nor_of_its_replay(tmp_path: Path, undisturbed: str, shards: int) -> None:
    pipeline.distill(cut(tmp_path, 0, shards))
    assert digest(tmp_path / "run-1" / "artefact") == undisturbed
    assert replay.replay(tmp_path / "run-1").identical


def test_too_many_shards_are_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for shards, said in (("99", "outer.shards: 99 shards, but"), ("0", "outer.shards: input should be greater")):
        argv = ["distill", "--outer.shards", shards, "--run.out", str(tmp_path), "--run.workers", "0"]
        assert cli.main([*argv, "--tracking.enabled", "false"]) == 2
        assert said in capsys.readouterr().err


def test_a_run_that_was_killed_goes_on_past_a_torn_part(
    tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = coordinator._record

    def die(loop: coordinator.Loop, *rest: Any) -> None:
        record(loop, *rest)
        if loop.step == 11:
            loop.crew.executor.server.saved(wait=True)
            raise MemoryError

    monkeypatch.setattr(coordinator, "_record", die)
    with pytest.raises(MemoryError):
        pipeline.distill(cut(tmp_path, 0, 3))
    monkeypatch.setattr(coordinator, "_record", record)
    torn = next((tmp_path / "run-1" / "checkpoints").glob("step-00000010.*")) / "part-1.safetensors"
    torn.write_bytes(torn.read_bytes()[:-3])
    pipeline.resume(tmp_path / "run-1")
    log = commit_log.read(tmp_path / "run-1" / "commits").to_pylist()
    applied = [row["step"] for row in log if row["kind"] == "apply"]
    assert [applied.count(step) for step in (4, 5, 11)] == [1, 2, 1], "it went on from the checkpoint of step 5"
    assert digest(tmp_path / "run-1" / "artefact") == undisturbed


@pytest.mark.ray
@pytest.mark.parametrize(("workers", "shards", "spread"), [(1, 2, False), (2, 2, False), (2, 3, True)])
def test_shards_on_a_cluster_change_no_byte(
    tmp_path: Path,
    ray_cluster: None,
    undisturbed: str,
    workers: int,
    shards: int,
    spread: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backends, "is_remote", lambda _: spread)  # as with a storage that all nodes reach
    pipeline.distill(cut(tmp_path, workers, shards))
    assert digest(tmp_path / "run-1" / "artefact") == undisturbed


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.parametrize(
    "fault", ["server at step 7: kill", "evaluator 1 at step 4: kill", "checkpoint at step 5: torn"]
)
def test_a_fault_among_shards_changes_no_byte(
    tmp_path: Path, ray_cluster: None, undisturbed: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor.RayExecutor, "_await_first", ray_executor.RayExecutor.await_all)
    faults = [fault, "server at step 8: kill"] if fault.startswith("checkpoint") else [fault]
    pipeline.distill(cut(tmp_path, 2, 3, *faults))
    log = commit_log.read(tmp_path / "run-1" / "commits").to_pylist()
    assert [row["error"] for row in log if row["kind"] == "fault"] == faults
    assert len([row for row in log if row["kind"] == "server"]) == sum("server" in line for line in faults)
    assert digest(tmp_path / "run-1" / "artefact") == undisturbed


@pytest.mark.ray
def test_a_sharded_asynchronous_run_is_replayed(tmp_path: Path, ray_cluster: None) -> None:
    made = cut(tmp_path, 2, 2)
    outer = made.outer.model_copy(update={"delay": 0, "staleness": 1})
    pipeline.distill(made.model_copy(update={"outer": outer}))
    assert replay.replay(tmp_path / "run-1").identical
