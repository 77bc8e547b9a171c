"""What the doctor examines, and how it speaks of what is wrong."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from raystill.platform import cli


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RAYSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAYSTILL_DATA", str(tmp_path))


def test_the_doctor_examines_everything_and_crashes_at_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cli.main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for subject in ("python", "torch", "processors", "gpus", "ray cluster", "tracking", "data cache", "data sets"):
        assert subject in out
    assert f"ok   ray            {version('ray')}\n" in out
    monkeypatch.setenv("RAYSTILL_DATA", str(tmp_path / "nowhere"))
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "no   data sets" in out
    assert "is not a folder" in out


def test_a_cluster_that_does_not_answer_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    assert cli.main(["doctor"]) == 1
    assert "no   ray cluster" in capsys.readouterr().out
