"""What the commit log is good for: the result again, and each item alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from raystill.actors.drive import coordinator, pipeline, replay
from raystill.actors.fleet import ray_executor
from raystill.actors.record import commit_log
from raystill.platform import cli
from raystill.platform.artifacts.files import load_distilled
from raystill.platform.runs import folder as runs
from raystill.platform.seeds import Address
from tests.actors.test_cluster import spec


@pytest.mark.parametrize("outer", [{}, {"delay": 2}, {"staleness": 1, "members": 2, "chunk": 1}])
def test_a_run_is_derived_again_bit_for_bit(tmp_path: Path, outer: dict[str, int]) -> None:
    pipeline.distill(spec(tmp_path, 0, **outer))
    found = replay.replay(tmp_path / "run-1")
    assert found.identical
    assert found.same_hardware
    assert max(found.deviation.values()) == 0.0
    assert found.step == load_distilled(tmp_path / "run-1" / "artefact").manifest["selection"]["step"]


@pytest.mark.ray
def test_an_asynchronous_run_is_bounded_logged_and_replayed(
    tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor.RayExecutor, "_await_first", ray_executor.RayExecutor.await_all)
    made = spec(tmp_path, 2, steps=20, staleness=1, members=2, chunk=1)
    slow = [f"evaluator 1 at step {step}: slow" for step in (2, 3, 4, 5)]
    made = made.model_copy(update={"run": made.run.model_copy(update={"faults": tuple(slow)})})
    pipeline.distill(made)
    applied = [r for r in commit_log.read(tmp_path / "run-1" / "commits").to_pylist() if r["kind"] == "apply"]
    assert [r["step"] for r in applied] == list(range(20))
    for row in applied:
        numbers = dict(row["numbers"])
        late = [row["step"] - e["version"] for e in row["entered"]]
        assert all(0 <= n <= 1 for n in late)
        assert numbers["staleness"] == sum(late) / 2
        assert numbers["accepted"] == 2 == len(row["entered"])
        assert all(e["weight"] == 1.0 for e in row["entered"])
    assert sum(dict(r["numbers"])["staleness"] for r in applied) > 0, "two evaluators are never both in time"
    entered = [(e["step"], e["member"]) for r in applied for e in r["entered"]]
    assert len(set(entered)) == len(entered), "no item enters twice"
    assert replay.replay(tmp_path / "run-1").identical


def test_a_killed_asynchronous_run_goes_on_and_is_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = spec(tmp_path, 0, steps=14, staleness=1, members=2, chunk=1)
    record = coordinator._record

    def die(loop: coordinator.Loop, *rest: object) -> None:
        record(loop, *rest)  # type: ignore[arg-type]
        if loop.step == 8:
            raise MemoryError

    monkeypatch.setattr(coordinator, "_record", die)
    with pytest.raises(MemoryError):
        pipeline.distill(made)
    monkeypatch.setattr(coordinator, "_record", record)
    pipeline.resume(tmp_path / "run-1")
    assert replay.replay(tmp_path / "run-1").identical


def test_one_item_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.distill(spec(tmp_path, 0))
    row = next(
        r for r in commit_log.read(tmp_path / "run-1" / "commits").to_pylist()
        if (r["kind"], r["step"], r["member"]) == ("meta_gradient", 5, 2)
    )  # fmt: skip
    outcome, arrays = replay.Replay(tmp_path / "run-1").one("meta_gradient", Address(0, 0, 5, 2))
    assert outcome.numbers == dict(row["numbers"])
    assert set(arrays) == {"images", "lr", "momentum"}
    assert cli.main(["replay", str(tmp_path / "run-1"), "--kind", "validate", "--step", "4", "--member", "1"]) == 0
    assert "is ok: {'accuracy'" in capsys.readouterr().out
    assert cli.main(["replay", str(tmp_path / "run-1"), "--step", "99"]) == 2
    assert "has no meta_gradient [seed=0 attempt=0 step=99" in capsys.readouterr().err


def test_what_deviates_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run whose spec was changed after the fact is not what its log says."""
    pipeline.distill(spec(tmp_path, 0))
    folder = tmp_path / "run-1"
    (folder / "spec.yaml").write_text(runs.dump(spec(tmp_path, 0, lr=0.02)))
    assert not replay.replay(folder).identical
    assert cli.main(["replay", str(folder)]) == 1
    assert "largest deviation: images" in capsys.readouterr().out
