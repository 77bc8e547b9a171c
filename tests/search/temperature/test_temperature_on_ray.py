"""The temperature search on Ray: the same rows from evaluators, Ray Tune's searchers, and a driver that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raystill.actors.record import commit_log
from raystill.platform.runs import folder as runs
from raystill.search.temperature import run, settings
from tests.search.temperature.test_temperature import log_of, spec

COMMAND = [sys.executable, "-m", "raystill.platform.cli"]


@pytest.mark.ray
def test_two_evaluators_measure_what_one_process_does(tmp_path: Path, ray_cluster: None) -> None:
    alone, two = spec(tmp_path / "alone"), spec(tmp_path / "two")
    two = two.model_copy(update={"run": two.run.model_copy(update={"workers": 2})})
    results = [run.search_temperature(made) for made in (alone, two)]
    assert {**results[0], "seconds": 0} == {**results[1], "seconds": 0}
    rows = [settings.read(tmp_path / name / "run" / run.ROWS) for name in ("alone", "two")]
    assert rows[0] == rows[1]


@pytest.mark.ray
@pytest.mark.parametrize("method", ["tpe", "asha"])
def test_ray_tune_searches_and_a_resume_asks_it_for_nothing_new(tmp_path: Path, ray_cluster: None, method: str) -> None:
    made = spec(tmp_path, method="grid", trials=5, rungs=2)
    changes = {
        "student": made.student.model_copy(update={"widths": (8,)}),
        "search": made.search.model_copy(update={"method": method}),
        "run": made.run.model_copy(update={"workers": 2}),
    }
    result = run.search_temperature(made.model_copy(update=changes))
    rows = settings.read(tmp_path / "run" / run.ROWS)
    assert len({r.setting for r in rows}) == 5
    assert {r.steps for r in rows} <= ({9, 27} if method == "asha" else {27})
    assert all(1 <= r.temperature <= 16 and 0.5 <= r.alpha <= 1 for r in rows)
    best = settings.ranked(rows, 27)[0]
    assert result["selection"]["settings"][0]["temperature"] == best.temperature
    (tmp_path / "run" / run.RESULT).unlink()  # as if killed between the trials and the choice
    again = run.resume(tmp_path / "run")
    assert again["selection"] == result["selection"]


@pytest.mark.chaos
def test_a_killed_search_goes_on_and_picks_the_same(tmp_path: Path) -> None:
    whole = spec(tmp_path / "whole", method="halving", rungs=2, block=1)
    expected = run.search_temperature(whole)
    cut = whole.model_copy(update={"run": whole.run.model_copy(update={"out": tmp_path / "cut"})})
    config, folder = tmp_path / "run.yaml", tmp_path / "cut" / "run"
    config.write_text(runs.dump(cut, "search temperature"))
    driver = subprocess.Popen([*COMMAND, "search", "temperature", "--config", str(config)], env={**os.environ})
    end = time.monotonic() + 120
    while time.monotonic() < end and not (folder.exists() and log_of(folder, "students")):
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait(10) == -signal.SIGKILL
    had = {row["stream"] for row in log_of(folder, "students")}
    assert had
    assert not (folder / run.RESULT).exists()
    done = subprocess.run([*COMMAND, "resume", str(folder)], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    rows = [settings.read(where / run.ROWS) for where in (tmp_path / "whole" / "run", folder)]
    assert rows[0] == rows[1]
    import json

    found = json.loads((folder / run.RESULT).read_text())
    assert {**found, "seconds": 0} == {**expected, "seconds": 0}
    streams = [row["stream"] for row in commit_log.read(folder / "commits").to_pylist() if row["kind"] == "students"]
    assert all(streams.count(stream) == 1 for stream in had), "what was there was not computed again"
