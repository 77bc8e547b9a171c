"""The crew against an executor that misbehaves by script."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import pytest

from raystill.actors import commit_log
from raystill.actors.commit_log import CommitLog
from raystill.actors.crew import Crew, WorkFailed
from raystill.actors.messages import Outcome, WorkItem
from raystill.platform.seeds import Address


class Scripted:
    """Answers each try at an item with the next status of its script, else `ok`; newest item first."""

    def __init__(self, **scripts: list[str]) -> None:
        self.scripts = {k: deque(v) for k, v in scripts.items()}
        self.queue: list[tuple[WorkItem, int | None]] = []
        self.avoided: list[int | None] = []

    def submit(self, item: WorkItem, inputs: Any, avoid: int | None = None) -> None:
        self.queue.append((item, avoid))
        self.avoided.append(avoid)

    def next(self, timeout: float) -> tuple[Outcome, Any] | None:
        if not self.queue:
            return None
        item, avoid = self.queue.pop()
        script = self.scripts.get(item.kind)
        status = script.popleft() if script else "ok"
        return Outcome(item, status, 1 if avoid == 0 else 0, 1.0, 0.5, {}, "why"), f"arrays of {item.kind}"


def item(kind: str, step: int = 0) -> WorkItem:
    return WorkItem(kind, Address(0, step=step), step, "meta")


def crew(tmp_path: Path, executor: Scripted) -> Crew:
    return Crew(executor, CommitLog(tmp_path), 0.05)  # type: ignore[arg-type]


def test_results_come_in_the_order_asked_for(tmp_path: Path) -> None:
    c = crew(tmp_path, Scripted())
    items = [c.add(item(k), None) for k in "abc"]
    assert [r.arrays for r in c.wait(items)] == ["arrays of a", "arrays of b", "arrays of c"]
    assert c.cpu_seconds == 1.5


def test_lost_items_are_computed_again(tmp_path: Path) -> None:
    c = crew(tmp_path, Scripted(a=["lost", "lost", "ok"]))
    (result,) = c.wait([c.add(item("a"), None)])
    assert result.outcome.status == "ok"
    assert c.retries == {"lost": 2}


def test_an_item_that_takes_three_evaluators_down_is_named(tmp_path: Path) -> None:
    c = crew(tmp_path, Scripted(a=["lost"] * 3))
    with pytest.raises(WorkFailed, match=r"a \[seed=0 .*\] took 3 evaluators down"):
        c.wait([c.add(item("a"), None)])


@pytest.mark.parametrize("status", ["failed", "not finite"])
def test_a_failure_gets_a_second_opinion_elsewhere(tmp_path: Path, status: str) -> None:
    executor = Scripted(a=[status, "ok"])
    c = crew(tmp_path, executor)
    (result,) = c.wait([c.add(item("a"), None)])
    assert executor.avoided == [None, 0]
    assert result.outcome.evaluator == 1


@pytest.mark.parametrize("status", ["failed", "not finite"])
def test_the_same_failure_twice_is_the_users(tmp_path: Path, status: str) -> None:
    c = crew(tmp_path, Scripted(a=[status, status]))
    with pytest.raises(WorkFailed, match=f"is {status} on two tries. why"):
        c.wait([c.add(item("a"), None)])


def test_silence_ends_with_what_was_waited_for(tmp_path: Path) -> None:
    executor = Scripted()
    c = crew(tmp_path, executor)
    added = c.add(item("a"), None)
    executor.queue.clear()
    with pytest.raises(TimeoutError, match=r"waiting for a \["):
        c.wait([added])


def test_every_try_is_in_the_log(tmp_path: Path) -> None:
    log = CommitLog(tmp_path)
    c = Crew(Scripted(a=["lost", "failed", "ok"]), log, 1.0)  # type: ignore[arg-type]
    c.wait([c.add(item("a", step=4), None)])
    log.step(0, 0, 4, 1.5, {"meta_loss": 2.0})
    log.close()
    rows = commit_log.read(tmp_path).to_pylist()
    assert [(r["kind"], r["status"], r["step"]) for r in rows] == [
        ("a", "lost", 4), ("a", "failed", 4), ("a", "ok", 4), ("apply", "ok", 4),
    ]  # fmt: skip
    assert dict(rows[-1]["numbers"]) == {"meta_loss": 2.0}


def test_a_torn_segment_is_read_up_to_its_last_whole_batch(tmp_path: Path) -> None:
    log = CommitLog(tmp_path)
    for step in range(3):
        log.step(0, 0, step, 1.0, {})
        log.flush()
    log.close()
    (path,) = tmp_path.glob("*.arrows")
    whole = path.read_bytes()
    seen = set()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        steps = commit_log.read(tmp_path)["step"].to_pylist()
        assert steps == list(range(len(steps)))
        seen.add(len(steps))
    assert seen == {0, 1, 2, 3}
