"""The promises of the distributed loop, on one shared local cluster: same bytes, whoever computes and whatever dies."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raystill.actors.drive import crew, pipeline
from raystill.actors.drive.coordinator import gradient_items
from raystill.actors.fleet import ray_executor
from raystill.actors.record import commit_log
from raystill.platform.artifacts.files import load_distilled
from raystill.platform.runs import folder as runs
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec

pytestmark = pytest.mark.ray


def spec(out: Path, workers: int, **outer: object) -> DistillSpec:
    return DistillSpec.model_validate(
        {
            "learner": {"name": "mlp", "width": 32},
            "synthesizer": {"steps": 2, "epochs": 2, "start": "average"},
            "inner": {"lr": 0.1, "momentum": 0.5, "learn_momentum": True},
            "outer": {"steps": 12, "members": 4, "chunk": 2, "batch_size": 64, "ema": 0.9, **outer},
            "validation": {"every": 4, "networks": 2, "images": 100},
            "assess": {"networks": 2, "baselines": False},
            "run": {"out": out, "workers": workers, "checkpoint_every": 5, "device": "cpu"},
            "tracking": {"enabled": False},
        }
    )


def digest(artefact: Path) -> str:
    return hashlib.sha256((artefact / "data.parquet").read_bytes()).hexdigest()


@pytest.fixture(scope="module", params=[0, 2])
def delay(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, delay: int) -> str:
    out = tmp_path_factory.mktemp("undisturbed")
    pipeline.distill(spec(out, 0, delay=delay))
    return digest(out / "run-1" / "artefact")


@pytest.mark.parametrize("workers", [1, 2])
def test_evaluators_change_no_byte(
    tmp_path: Path, ray_cluster: None, undisturbed: str, delay: int, workers: int
) -> None:
    distilled = pipeline.distill(spec(tmp_path, workers, delay=delay))
    assert digest(tmp_path / "run-1" / "artefact") == undisturbed
    assert load_distilled(tmp_path / "run-1" / "artefact").images.tobytes() == distilled.images.tobytes()


@pytest.fixture
def all_present(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs this short can end before a second evaluator has started: wait for all of them first."""
    monkeypatch.setattr(ray_executor.RayExecutor, "_await_first", ray_executor.RayExecutor.await_all)


def test_both_evaluators_worked(tmp_path: Path, ray_cluster: None, all_present: None) -> None:
    pipeline.distill(spec(tmp_path, 2))
    log = commit_log.read(tmp_path / "run-1" / "commits").to_pylist()
    gradients = [row for row in log if row["kind"] == "meta_gradient"]
    assert len({(row["step"], row["member"]) for row in gradients}) == len(gradients) == 24
    assert {row["evaluator"] for row in gradients} == {0, 1}


def test_a_killed_evaluator_changes_no_byte(
    tmp_path: Path, ray_cluster: None, undisturbed: str, delay: int, all_present: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "PATIENCE", float("inf"))  # else a copy may be done before the news of the death is here
    doomed = spec(tmp_path, 2, delay=delay)
    # it dies in the middle of an item: one killed from outside may have answered before
    faults = ("evaluator 0 at step 3: kill",)
    doomed = doomed.model_copy(update={"run": doomed.run.model_copy(update={"faults": faults})})
    pipeline.distill(doomed)
    log = commit_log.read(tmp_path / "run-1" / "commits").to_pylist()
    lost = [row for row in log if row["status"] == "lost"]
    assert [row["evaluator"] for row in lost] == [0]
    assert lost[0]["step"] >= 3
    assert digest(tmp_path / "run-1" / "artefact") == undisturbed


def test_an_item_that_always_fails_stops_the_run_with_its_address(tmp_path: Path, ray_cluster: None) -> None:
    def broken(step: object) -> object:
        raise ArithmeticError("no such logarithm")

    wrong = spec(tmp_path, 2)
    wrong = wrong.model_copy(update={"outer": wrong.outer.model_copy(update={"objective": "broken"})})
    with pytest.raises(
        ValueError, match=r"meta_gradient \[seed=0 attempt=0 step=0 .* failed on two tries.*no such logarithm"
    ):
        pipeline.distill(wrong, {"objectives": {"broken": broken}})


def test_a_non_finite_gradient_is_never_applied(tmp_path: Path, ray_cluster: None) -> None:
    def infinite(step: object) -> object:
        return step.student.logits.sum(1) * float("inf")  # type: ignore[attr-defined]

    wrong = spec(tmp_path, 2)
    wrong = wrong.model_copy(update={"outer": wrong.outer.model_copy(update={"objective": "infinite"})})
    with pytest.raises(ValueError, match=r"step=0 .* is not finite on two tries"):
        pipeline.distill(wrong, {"objectives": {"infinite": infinite}})
    log = commit_log.read(tmp_path / "run-1" / "commits").to_pylist()
    assert not [row for row in log if row["kind"] == "apply"]


def test_more_evaluators_than_slots_is_refused(tmp_path: Path, ray_cluster: None) -> None:
    with pytest.raises(ValueError, match=r"run\.workers: 64 evaluators, but the cluster offers \d+ cpu slots"):
        pipeline.make_plan(spec(tmp_path, 64))


@pytest.mark.chaos
@pytest.mark.parametrize(("sign", "delay"), [(signal.SIGKILL, 0), (signal.SIGKILL, 2), (signal.SIGINT, 1)])
def test_a_stopped_run_resumes_to_the_same_bytes(tmp_path: Path, sign: signal.Signals, delay: int) -> None:
    """The driver is killed without warning, or stopped by Ctrl-C, and `raystill resume` ends in the same bytes."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    long = spec(whole, 0, steps=60, delay=delay)
    pipeline.distill(long)
    config = tmp_path / "run.yaml"
    config.write_text(runs.dump(long.model_copy(update={"run": long.run.model_copy(update={"out": cut})})))
    command = [sys.executable, "-m", "raystill.platform.cli"]
    process = subprocess.Popen(
        [*command, "distill", "--config", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    folder = cut / "run-1"
    deadline = time.monotonic() + 60
    while not (folder / "checkpoints" / "LATEST").exists():
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, sign)
    _, said = process.communicate(timeout=60)
    assert not (folder / "artefact").exists(), "stopped too late to prove anything"
    if sign is signal.SIGINT:
        assert process.returncode == 130
        assert f"raystill resume {folder}" in said
    subprocess.run([*command, "resume", str(folder)], check=True, stdout=subprocess.DEVNULL, timeout=120)
    assert digest(folder / "artefact") == digest(whole / "run-1" / "artefact")
    rows = [r["step"] for r in commit_log.read(folder / "commits").to_pylist() if r["kind"] == "apply"]
    assert sorted(set(rows)) == list(range(60))
    assert len(rows) < 120, "the resumed run started over"


def test_chunks_do_not_depend_on_evaluators(tmp_path: Path) -> None:
    items = gradient_items(spec(tmp_path, 7), 0, 3)
    assert [item.address for item in items] == [Address(0, 0, 3, 0), Address(0, 0, 3, 2)]


@pytest.mark.parametrize(("delay", "versions"), [(0, [0, 1, 2, 3, 4]), (2, [0, 0, 0, 1, 2])])
def test_gradients_are_late_by_the_delay_and_by_nothing_else(tmp_path: Path, delay: int, versions: list[int]) -> None:
    pipeline.distill(spec(tmp_path, 0, steps=5, delay=delay))
    log = commit_log.read(tmp_path / "run-1" / "commits").to_pylist()
    assert [r["version"] for r in log if r["kind"] == "meta_gradient" and r["member"] == 0] == versions
