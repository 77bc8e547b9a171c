"""Every kind of fault on a real cluster: the run ends, and in the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raystill.actors import faults
from raystill.actors.drive import coordinator, crew, pipeline
from raystill.actors.faults import Fault, Schedule
from raystill.actors.fleet import ray_executor
from raystill.actors.record import commit_log
from raystill.actors.server.backends import ServerLost
from raystill.actors.server.shards import Handle
from raystill.platform.runs import folder
from raystill.platform.spec import DistillSpec
from tests.actors.test_cluster import digest, spec


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("evaluator 1 at step 3: kill", Fault("evaluator", 3, "kill", 1)),
        ("evaluator 0 at step 0: nan", Fault("evaluator", 0, "nan", 0)),
        ("  server at step 9: kill ", Fault("server", 9, "kill")),
        ("checkpoint at step 4: torn", Fault("checkpoint", 4, "torn")),
    ],
)
def test_a_line_is_a_fault(line: str, fault: Fault) -> None:
    assert faults.parse(line) == fault
    assert faults.parse(str(fault)) == fault


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("evaluator at step 3: kill", "is not a fault; write one as"),
        ("evaluator 1 at step 3: tickle", "one of kill, exception, hang"),
        ("server at step 1: torn", "a fault of server is one of kill"),
    ],
)
def test_what_is_no_fault_is_refused_before_work(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        pipeline.make_plan(with_faults(spec(tmp_path, 0), line))


def test_each_fault_strikes_once_also_after_a_resume(tmp_path: Path) -> None:
    lines = ["evaluator 1 at step 3: kill", "server at step 2: kill"]
    noted = tmp_path / "faults.txt"
    one = Schedule(lines, noted)
    assert one.take("evaluator", 2, 1) is None
    assert one.take("evaluator", 3, 0) is None
    assert one.take("evaluator", 4, 1) == "kill"
    assert one.take("evaluator", 5, 1) is None
    two = Schedule(lines, noted)
    assert two.take("evaluator", 9, 1) is None
    assert two.take("server", 9) == "kill"


def with_faults(made: DistillSpec, *lines: str, **run: Any) -> DistillSpec:
    return made.model_copy(update={"run": made.run.model_copy(update={"faults": lines, **run})})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("undisturbed")
    pipeline.distill(spec(out, 0, delay=1, members=2, chunk=1, steps=16))
    return digest(out / "run-1" / "artefact")


EVALUATOR = [f"evaluator 1 at step 4: {kind}" for kind in faults.FAULTS["evaluator"]]
OTHERS = [
    "server at step 7: kill",
    "server at step 1: kill",
    "checkpoint at step 5: torn",
    "checkpoint at step 5: full",
]


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.parametrize("line", [*EVALUATOR, *OTHERS])
def test_a_fault_changes_no_byte(
    tmp_path: Path, ray_cluster: None, undisturbed: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor.RayExecutor, "_await_first", ray_executor.RayExecutor.await_all)
    if line.endswith(("kill", "exception", "nan")):
        monkeypatch.setattr(crew, "LEAST_PATIENCE", 60.0)  # a copy can win before Ray tells of the loss
    made = spec(tmp_path, 2, delay=1, members=2, chunk=1, steps=16)
    pipeline.distill(with_faults(made, line, deadline=3.0 if "hang" in line else 60.0))
    log = commit_log.read(tmp_path / "run-1" / "commits").to_pylist()
    assert [r["error"] for r in log if r["kind"] == "fault"] == [line]
    assert digest(tmp_path / "run-1" / "artefact") == undisturbed
    statuses = {r["status"] for r in log}  # of whatever the evaluator had first from that step on
    expected = {
        "kill": "lost",
        "exception": "failed",
        "full": "failed",
        "nan": "not finite",
        "hang": "ok",
        "slow": "ok",
    }
    if line.startswith("evaluator"):
        assert expected[line.split(": ")[1]] in statuses
    if line.startswith("server"):
        assert [r for r in log if r["kind"] == "server"], "the new server is on record"
    if line == "checkpoint at step 5: full":
        assert any("No space left" in r["error"] for r in log if r["kind"] == "checkpoint")


def test_a_lost_server_costs_no_byte_in_this_process_either(tmp_path: Path, undisturbed: str) -> None:
    made = spec(tmp_path, 0, delay=1, members=2, chunk=1, steps=16)
    pipeline.distill(
        with_faults(made, "server at step 3: kill", "server at step 12: kill", "checkpoint at step 10: torn")
    )
    assert digest(tmp_path / "run-1" / "artefact") == undisturbed
    applied = [r["step"] for r in commit_log.read(tmp_path / "run-1" / "commits").to_pylist() if r["kind"] == "apply"]
    assert applied[:4] == [0, 1, 2, 0], "no checkpoint yet: from the start"
    assert applied.count(5) > 1, "the torn checkpoint of step 10 was passed over for that of step 5"
    assert sorted(set(applied)) == list(range(16))


def test_servers_that_are_lost_again_and_again_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "SERVERS", 3)
    lines = [f"server at step {step}: kill" for step in (1, 2, 3)]
    with pytest.raises(RuntimeError, match="the parameter server is gone"):
        pipeline.distill(with_faults(spec(tmp_path, 0), *lines))


def test_the_status_tells_what_befell(tmp_path: Path) -> None:
    pipeline.distill(with_faults(spec(tmp_path, 0), "server at step 3: kill"))
    status = json.loads((tmp_path / "run-1" / "status.json").read_text())
    assert status["state"] == "done"
    assert status["servers"] == 2
    assert folder.load(tmp_path / "run-1").run.faults == ("server at step 3: kill",)


class Dead:
    """An actor that never answers: it is killed before it could."""

    def forget(self) -> None: ...


@pytest.mark.ray
def test_what_was_in_flight_when_a_server_died_is_no_news_to_the_next(tmp_path: Path, ray_cluster: None) -> None:
    import ray

    made = pipeline.make_plan(spec(tmp_path, 1, steps=1, members=2, chunk=1))
    executor = ray_executor.RayExecutor(made.spec, dict(made.synthesizer.groups), None, (1, 1), made.data.fingerprint)
    dead = ray.remote(Dead).remote()
    ray.kill(dead)
    gone = Handle((dead.forget.remote(),))
    first, second = coordinator.gradient_items(made.spec, 0, 0)
    executor.submit(first, gone)
    executor.forget()
    assert executor.next(60) is None
    assert not executor.status()[0]["in_flight"]
    executor.submit(second, gone)
    with pytest.raises(ServerLost, match="input of"):
        executor.next(60)
    executor.close()
