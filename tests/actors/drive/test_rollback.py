"""A run that diverges: it stops with what would help, or goes back and learns on, to the same bytes every time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raystill.actors.drive import pipeline
from raystill.actors.drive.replay import replay
from raystill.actors.record import commit_log
from raystill.actors.server.parameter_server import ParameterServer
from raystill.platform.outer import step as outer
from raystill.platform.spec import DistillSpec, OuterSpec
from raystill.platform.work import kinds


def spec(out: Path, **changes: object) -> DistillSpec:
    return DistillSpec.model_validate(
        {
            "learner": {"name": "mlp", "width": 16},
            "synthesizer": {"steps": 2, "epochs": 1, "start": "average"},
            "outer": {"steps": 12, "members": 2, "chunk": 1, "batch_size": 64, "rollback_to": 3, **changes},
            "validation": {"every": 2, "networks": 2, "images": 100},
            "assess": {"networks": 2, "baselines": False},
            "run": {"out": out, "workers": 0, "checkpoint_every": 4, "device": "cpu"},
            "tracking": {"enabled": False},
        }
    )


@pytest.fixture
def diverges(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the gradients of some (attempt, step) infinite."""
    sound = kinds.KINDS["meta_gradient"]

    def at(*places: tuple[int, int]) -> None:
        def broken(bench: Any, address: Any, options: Any, inputs: Any) -> Any:
            numbers, arrays = sound(bench, address, options, inputs)
            if (address.attempt, address.step) in places:
                arrays = {k: v * np.float32("inf") for k, v in arrays.items()}
            return numbers, arrays

        monkeypatch.setitem(kinds.KINDS, "meta_gradient", broken)

    return at


def applied(folder: Path) -> list[tuple[int, int]]:
    return [(r["attempt"], r["step"]) for r in commit_log.read(folder / "commits").to_pylist() if r["kind"] == "apply"]


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "artefact" / "data.parquet").read_bytes()).hexdigest()


def test_a_diverged_run_stops_and_says_what_would_help(tmp_path: Path, diverges: Any) -> None:
    diverges((0, 5))
    with pytest.raises(ValueError, match=r"step=5 .* is not finite on two tries.*outer\.rollbacks lets a run go back"):
        pipeline.distill(spec(tmp_path))


@pytest.mark.parametrize("delay", [0, 1])
def test_a_rollback_goes_back_to_the_older_anchor_as_another_attempt(tmp_path: Path, diverges: Any, delay: int) -> None:
    diverges((0, 8))
    pipeline.distill(spec(tmp_path, rollbacks=1, delay=delay))
    folder = tmp_path / "run-1"
    assert applied(folder) == [(0, s) for s in range(8)] + [(1, s) for s in range(3, 12)]
    events = [r for r in commit_log.read(folder / "commits").to_pylist() if r["kind"] == "rollback"]
    assert [(r["attempt"], r["step"]) for r in events] == [(0, 8)]
    assert "attempt 1 goes on from step 3" in events[0]["error"]
    assert replay(folder).identical


def test_a_run_that_keeps_diverging_stops_in_the_end(tmp_path: Path, diverges: Any) -> None:
    diverges((0, 8), (1, 7), (2, 3))
    with pytest.raises(ValueError, match=r"attempt=2 step=3 .* is not finite"):
        pipeline.distill(spec(tmp_path, rollbacks=2))
    assert applied(tmp_path / "run-1") == [
        *((0, s) for s in range(8)), *((1, s) for s in range(3, 7))
    ]  # fmt: skip


@pytest.mark.parametrize("stop", [(0, 7), (1, 3), (1, 10)])
def test_a_killed_run_that_rolled_back_resumes_to_the_same_bytes(
    tmp_path: Path, diverges: Any, monkeypatch: pytest.MonkeyPatch, stop: tuple[int, int]
) -> None:
    diverges((0, 8))
    pipeline.distill(spec(tmp_path / "whole", rollbacks=1))
    sound, cut = ParameterServer.apply, []

    def once(server: ParameterServer, attempt: int, step: int, *rest: Any) -> Any:
        if (attempt, step) == stop and not cut:
            cut.append(step)
            raise OSError("the machine is off")
        return sound(server, attempt, step, *rest)

    monkeypatch.setattr(ParameterServer, "apply", once)
    with pytest.raises(OSError, match="off"):
        pipeline.distill(spec(tmp_path / "cut", rollbacks=1))
    pipeline.resume(tmp_path / "cut" / "run-1")
    assert digest(tmp_path / "cut" / "run-1") == digest(tmp_path / "whole" / "run-1")


def test_a_meta_loss_above_its_bound_is_divergence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"meta-loss of outer step 0 is .*, above outer\.diverged \(0\.01\)"):
        pipeline.distill(spec(tmp_path, diverged=0.01))
    assert applied(tmp_path / "run-1") == []


def test_each_attempt_halves_the_rates() -> None:
    plain = OuterSpec(lr=0.4, label_lr=0.2, rate_lr=0.1)
    assert outer.slowed(plain, 0) == plain
    slow = outer.slowed(plain, 2)
    assert (slow.lr, slow.label_lr, slow.rate_lr) == (0.1, 0.05, 0.025)
    assert slow.model_copy(update={"lr": 0.4, "label_lr": 0.2, "rate_lr": 0.1}) == plain
