"""The crew against an executor that misbehaves by script."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import pytest

from raystill.actors.drive.crew import Crew, WorkFailed
from raystill.actors.fleet.executors import Straggler
from raystill.actors.messages import Outcome, WorkItem
from raystill.actors.record import commit_log
from raystill.actors.record.commit_log import CommitLog
from raystill.platform.seeds import Address


class Scripted:
    """Answers each try at an item with the next status of its script, else `ok`; newest item first."""

    def __init__(self, **scripts: list[str]) -> None:
        self.scripts = {k: deque(v) for k, v in scripts.items()}
        self.queue: list[tuple[WorkItem, int | None]] = []
        self.avoided: list[int | None] = []
        self.lates: deque[list[Straggler]] = deque()
        self.quarantined: list[int] = []

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

    def stragglers(self) -> list[Straggler]:
        return self.lates.popleft() if self.lates else []

    def quarantine(self, number: int) -> None:
        self.quarantined.append(number)


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
    log.step(Address(0, step=4), 1.5, {"meta_loss": 2.0})
    log.close()
    rows = commit_log.read(tmp_path).to_pylist()
    assert [(r["kind"], r["status"], r["step"]) for r in rows] == [
        ("a", "lost", 4), ("a", "failed", 4), ("a", "ok", 4), ("apply", "ok", 4),
    ]  # fmt: skip
    assert dict(rows[-1]["numbers"]) == {"meta_loss": 2.0}


def test_a_torn_segment_is_read_up_to_its_last_whole_batch(tmp_path: Path) -> None:
    log = CommitLog(tmp_path)
    for step in range(3):
        log.step(Address(0, step=step), 1.0, {})
        log.flush()
    log.close()
    (path,) = tmp_path.glob("*.arrows")
    whole = path.read_bytes()
    seen = set()
    for length in [*range(0, len(whole), 97), len(whole)]:
        path.write_bytes(whole[:length])
        steps = commit_log.read(tmp_path)["step"].to_pylist()
        assert steps == list(range(len(steps)))
        seen.add(len(steps))
    assert seen == {0, 1, 2, 3}


def test_an_item_that_only_waited_behind_another_is_not_suspected(tmp_path: Path) -> None:
    c = crew(tmp_path, Scripted(a=["returned"] * 5 + ["ok"]))
    (result,) = c.wait([c.add(item("a"), None)])
    assert result.outcome.status == "ok"
    assert c.retries == {"returned": 5}


@pytest.mark.parametrize("status", ["failed", "not finite"])
def test_who_computed_what_others_did_not_is_quarantined(tmp_path: Path, status: str) -> None:
    executor = Scripted(a=[status, "ok"], b=["ok"])
    c = crew(tmp_path, executor)
    c.wait([c.add(item("a"), None), c.add(item("b"), None)])
    assert executor.quarantined == [0]


def test_a_failure_names_the_command_that_shows_it(tmp_path: Path) -> None:
    c = Crew(Scripted(a=["failed"] * 2), CommitLog(tmp_path), 1.0, "runs/mine")  # type: ignore[arg-type]
    with pytest.raises(WorkFailed, match="raystill replay runs/mine --kind a --attempt 0 --step 4 --member 0"):
        c.wait([c.add(item("a", step=4), None)])


def test_a_late_item_is_copied_once_and_the_first_answer_wins(tmp_path: Path) -> None:
    executor = Scripted()
    c = crew(tmp_path, executor)
    c.wait([c.add(item("slow", step), None) for step in range(3)])  # each took a second
    late = item("slow", 9)
    answers = deque([None, None, None])
    real = executor.next

    def next_(timeout: float) -> Any:
        return answers.popleft() if answers else real(timeout)

    executor.next = next_  # type: ignore[method-assign]
    executor.lates.extend([[Straggler(late, 0, 2.9)], [Straggler(late, 0, 3.1)], [Straggler(late, 0, 9.0)]])
    (result,) = c.wait([c.add(late, None)])
    assert c.copies == 1
    assert executor.avoided[-1] == 0
    assert result.outcome.status == "ok"
    assert c.outstanding == 0
    c.add(item("other"), None)
    executor.queue.reverse()  # the other copy's answer comes first, is logged, and changes nothing
    c.wait([item("other")])
    assert c.outstanding == 0
    c._log.flush()
    rows = [r for r in commit_log.read(tmp_path).to_pylist() if (r["kind"], r["step"]) == ("slow", 9)]
    assert [r["status"] for r in rows] == ["ok", "ok"]


def test_no_copy_before_the_usual_time_is_known(tmp_path: Path) -> None:
    executor = Scripted()
    executor.lates.append([Straggler(item("a"), 0, 1000.0)])
    c = crew(tmp_path, executor)
    c.wait([c.add(item("a"), None)])
    assert c.copies == 0


def test_what_is_forgotten_is_ignored_when_it_comes(tmp_path: Path) -> None:
    executor = Scripted()
    executor.forget = lambda: None  # type: ignore[attr-defined]
    c = crew(tmp_path, executor)
    c.add(item("a"), None)
    c.forget()
    assert c.outstanding == 0
    c.wait([c.add(item("b"), None)])
    assert c.ready([item("a")]) == []
