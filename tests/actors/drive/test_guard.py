"""One driver for a run, signals, and the way to a storage and back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from raystill.actors.drive import coordinator, guard, pipeline
from raystill.actors.launch import attach
from raystill.actors.record import commit_log
from raystill.platform import cli
from raystill.platform.files.storage import Storage
from raystill.platform.runs import folder as runs
from raystill.platform.spec import DistillSpec
from tests.actors.test_cluster import digest, spec
from tests.platform.files.test_storage import s3  # noqa: F401

COMMAND = [sys.executable, "-m", "raystill.platform.cli"]


def with_run(made: DistillSpec, **run: Any) -> DistillSpec:
    return made.model_copy(update={"run": made.run.model_copy(update=run)})


class Crash(Exception):
    """Stands for a killed driver."""


@pytest.fixture
def crash_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    record = coordinator._record

    def at(step: int) -> None:
        def die(loop: coordinator.Loop, *rest: Any) -> None:
            record(loop, *rest)
            if loop.step == step:
                raise Crash

        monkeypatch.setattr(coordinator, "_record", die if step else record)

    return at


def test_a_second_driver_on_this_machine_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    folder.mkdir()
    with runs.locked(folder):
        code = (
            "import sys; from pathlib import Path; from raystill.platform import runs\n"
            "with runs.locked(Path(sys.argv[1])): print('held')"
        )
        second = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
        assert f"is being worked on by another process (pid {os.getpid()})" in second.stderr
    with runs.locked(folder):
        pass


@pytest.mark.ray
def test_a_second_driver_in_the_cluster_is_refused(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_PATIENCE", 1.0)
    board = guard.claim_board("s3://runs/mine")
    with pytest.raises(ValueError, match="another driver in this cluster is working on this run"):
        guard.claim_board("s3://runs/mine?with=another_query")
    other = guard.claim_board("s3://runs/other")
    import ray

    for actor in (board, other):
        ray.kill(actor)
    ray.kill(guard.claim_board("s3://runs/mine"))


def test_the_later_of_two_drivers_wins(tmp_path: Path) -> None:
    one = guard.Epoch(Storage(tmp_path))
    one.check()
    two = guard.Epoch(Storage(tmp_path))
    two.check()
    with pytest.raises(guard.Superseded, match="its epoch 2, ours 1"):
        one.check()


def test_a_superseded_driver_stops_at_its_next_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = spec(tmp_path, 0, steps=20)
    record = coordinator._record
    seen = []

    def usurp(loop: coordinator.Loop, *rest: Any) -> None:
        record(loop, *rest)
        seen.append(loop.step)
        if loop.step == 7:
            guard.Epoch(Storage(loop.folder))

    monkeypatch.setattr(coordinator, "_record", usurp)
    with pytest.raises(guard.Superseded):
        pipeline.distill(made)
    assert max(seen) < 11, "the checkpoint of step 10 is where it looks"
    assert not (tmp_path / "run-1" / "artefact").exists()


@pytest.fixture
def away(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    uri: str = request.getfixturevalue("s3")
    head, _, query = uri.partition("?")
    return f"{head}/{tmp_path.name}?{query}"


def test_a_run_lives_in_its_storage_and_comes_home(
    tmp_path: Path, away: str, crash_at: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = with_run(spec(tmp_path / "whole", 0, delay=1), storage=None)
    pipeline.distill(made)
    here, there = tmp_path / "here", tmp_path / "there"
    crash_at(8)
    with pytest.raises(Crash):
        pipeline.distill(with_run(made, storage=away, out=here))
    crash_at(0)
    assert not (here / "run-1" / "checkpoints").exists(), "checkpoints lie in the storage alone"
    (here / "run-1").rename(tmp_path / "lost")  # the machine is gone
    there.mkdir()
    monkeypatch.chdir(there)
    head, _, query = away.partition("?")
    assert cli.main(["resume", f"{head}/run-1?{query}"]) == 0
    assert digest(there / "runs" / "run-1" / "artefact") == digest(tmp_path / "whole" / "run-1" / "artefact")
    steps = [
        r["step"] for r in commit_log.read(there / "runs" / "run-1" / "commits").to_pylist() if r["kind"] == "apply"
    ]
    assert steps[:5] == [0, 1, 2, 3, 4]
    assert steps.count(3) == 1, "it went on from the checkpoint of step 5"
    capsys.readouterr()
    assert cli.main(["pull", "run-1", "--storage", away, "--out", str(tmp_path / "home")]) == 0
    assert "files" in capsys.readouterr().out
    assert digest(tmp_path / "home" / "run-1" / "artefact") == digest(there / "runs" / "run-1" / "artefact")
    assert (tmp_path / "home" / "run-1" / "report.html").is_file()
    assert cli.main(["pull", "no-such-run", "--storage", away]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_a_storage_that_fails_for_a_while_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = with_run(spec(tmp_path, 0), storage=str(tmp_path / "away"))
    write, failed = Storage.write, []

    def flaky(self: Storage, name: str, data: bytes) -> None:
        if "step-00000005" in name and not failed:
            failed.append(name)
            raise OSError("away for a moment")
        write(self, name, data)

    monkeypatch.setattr(Storage, "write", flaky)
    pipeline.distill(made)
    assert failed
    log = commit_log.read(tmp_path / "run-1" / "commits").to_pylist()
    events = [(r["step"], r["error"]) for r in log if r["kind"] == "checkpoint"]
    assert (5, "not written: away for a moment") in events
    assert digest(tmp_path / "away" / "run-1" / "artefact") == digest(tmp_path / "run-1" / "artefact")


@pytest.mark.chaos
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_stops_at_a_good_place(tmp_path: Path, sign: signal.Signals, code: int) -> None:
    made = with_run(spec(tmp_path, 1, steps=4000), checkpoint_every=10_000)
    config = tmp_path / "run.yaml"
    config.write_text(runs.dump(made))
    process = subprocess.Popen(
        [*COMMAND, "distill", "--config", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    status, end = tmp_path / "run-1" / "status.json", time.monotonic() + 90
    while not (status.exists() and json.loads(status.read_text()).get("step", 0) > 3):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(process.pid, sign)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"go on with: raystill resume {tmp_path / 'run-1'}" in said
    assert list((tmp_path / "run-1" / "checkpoints").glob("step-*")), (
        "nothing of 10,000 steps between checkpoints is lost"
    )
    assert json.loads(status.read_text())["state"] == "stopped"


def test_a_status_reads_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.distill(spec(tmp_path, 0))
    assert cli.main(["attach", str(tmp_path / "run-1")]) == 0
    said = capsys.readouterr().out
    assert "run-1  done  step 12/12  validation" in said
    assert "evaluator -1  here cpu" in said
    assert cli.main(["attach", str(tmp_path / "nothing")]) == 2
    assert "has no status.json" in capsys.readouterr().err
    row = {"evaluator": 3, "node": "n", "device": "cuda", "state": "starting", "members_per_second": 2.0, "losses": 1}
    text = list(attach.lines({"run": "r", "evaluators": [row], "retries": {"lost": 2}, "copies": 1}))
    assert text == ["r  -  step 0/-  2 lost  copies 1", "  evaluator 3  n cuda  starting  2.0 members/s  lost 1 times"]
