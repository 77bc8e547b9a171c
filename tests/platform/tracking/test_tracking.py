"""MLflow: against a real store in a folder, which resumes, vanishes and comes back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raystill.platform.spec import TrackingSpec
from raystill.platform.tracking import tracker as tracking
from raystill.platform.tracking.tracker import Tracker, flatten, reachable


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that two processes made at the same moment; a fresh one takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    code = (
        "import os, sys\n"
        "from raystill.platform.spec.experiment import TrackingSpec\n"
        "from raystill.platform.tracking import Tracker\n"
        "assert 'mlflow' not in sys.modules\n"
        "tracker = Tracker.start(TrackingSpec(), 'first', {})\n"
        "assert tracker.finish() and os.environ['MLFLOW_DISABLE_TELEMETRY'] == 'true'"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    both = [
        subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        assert "alembic" not in errors
    return folder / "mlflow.db"


@pytest.fixture
def spec(template: Path, tmp_path: Path) -> TrackingSpec:
    shutil.copy(template, tmp_path / "copy.db")
    return TrackingSpec(uri=f"sqlite:///{tmp_path / 'copy.db'}", experiment="tested/a b")


def points(tracker: Tracker, key: str) -> list[tuple[int, float]]:
    assert tracker._client is not None
    return [(m.step, m.value) for m in tracker._client.get_metric_history(tracker.run_id, key)]


def test_two_processes_may_open_a_fresh_store_at_once(template: Path) -> None:
    assert template.is_file()  # by default in the working folder


def test_params_metrics_and_files(spec: TrackingSpec, tmp_path: Path) -> None:
    tracker = Tracker.start(spec, "run", {"a": {"b": 1, "password": "x"}, "long": "y" * 7000}, {"kind": "test"})
    for step in range(1500):
        tracker.log(step, {"loss": 1.0 / (step + 1), "accuracy %": 50.0}, 1000 + step)
    (tmp_path / "art").mkdir()
    (tmp_path / "art" / "manifest.json").write_text("{}")
    (tmp_path / "picture.png").write_bytes(b"png")
    tracker.artifact_dir(tmp_path / "art")
    tracker.image(tmp_path / "picture.png")
    assert tracker.finish()
    assert tracker._client is not None
    run = tracker._client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"a.b": "1", "a.password": "[redacted]", "long": "y" * 6000}
    assert run.data.tags["kind"] == "test"
    assert points(tracker, "loss") == [(step, 1.0 / (step + 1)) for step in range(1500)]
    assert len(points(tracker, "accuracy _")) == 1500
    assert [f.path for f in tracker._client.list_artifacts(tracker.run_id, "art")] == ["art/manifest.json"]
    assert [f.path for f in tracker._client.list_artifacts(tracker.run_id, "images")] == ["images/picture.png"]
    assert (tmp_path / "mlruns").is_dir()  # beside the database, not in the working folder


def test_a_batch_has_at_most_a_thousand_metrics(spec: TrackingSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker.start(spec, "run", {})
    sizes: list[int] = []
    monkeypatch.setattr(tracker._client, "log_batch", lambda run_id, metrics: sizes.append(len(metrics)))
    for step in range(1250):
        tracker.log(step, {"a": 0.0, "b": 0.0}, step)
    assert tracker.flush()
    assert sizes == [1000, 1000, 500]


def test_a_resume_logs_nothing_twice(spec: TrackingSpec) -> None:
    first = Tracker.start(spec, "run", {"seed": 1})
    for step in range(8):
        first.log(step, {"loss": float(step)}, step)
    first.log(5, {"validation": 90.0}, 5)
    first.flush()
    assert first.run_id
    second = Tracker.start(spec, "run", {"seed": 2, "new": 3}, resume=first.run_id)
    for step in range(5, 12):  # from a checkpoint that lies before the last logged step
        second.log(step, {"loss": float(step)}, 100 + step)
    for step in (0, 5, 10):  # validation is late: step 0 never arrived in the first session
        second.log(step, {"validation": 91.0}, 100 + step)
    assert second.finish()
    assert second.run_id == first.run_id
    assert points(second, "loss") == [(step, float(step)) for step in range(12)]
    assert sorted(points(second, "validation")) == [(0, 91.0), (5, 90.0), (10, 91.0)]
    assert second._client is not None
    assert second._client.get_run(second.run_id).data.params == {"seed": "1", "new": "3"}


def test_a_store_that_vanishes_costs_nothing_but_time(spec: TrackingSpec, tmp_path: Path) -> None:
    tracker = Tracker.start(spec, "run", {})
    tracker.log(0, {"loss": 0.0}, 0)
    assert tracker.flush()
    (tmp_path / "copy.db").rename(tmp_path / "away.db")
    tracker.log(1, {"loss": 1.0}, 1)
    tracker.artifact(tmp_path / "away.db")
    assert not tracker.flush(force=True)
    assert not tracker.flush(force=True)
    assert tracker.failures == 2
    (tmp_path / "copy.db").unlink(missing_ok=True)
    (tmp_path / "away.db").rename(tmp_path / "copy.db")
    (tmp_path / "away.db").write_text("any file")
    tracker.log(2, {"loss": 2.0}, 2)
    assert tracker.flush(force=True)
    assert points(tracker, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_an_injected_loss_ends_by_itself(spec: TrackingSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker.start(spec, "run", {})
    tracker.log(0, {"loss": 0.0}, 0)
    tracker.lose(seconds=3600.0)
    assert not tracker.flush(force=True)
    assert "injected" in tracker.trouble
    assert points(tracker, "loss") == []
    tracker.lose(seconds=0.0)
    assert tracker.finish()
    assert points(tracker, "loss") == [(0, 0.0)]


def test_a_later_session_logs_what_the_first_could_not(spec: TrackingSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "MOST_WAITING", 1500)  # fewer than are missing
    record = [(step, {"loss": float(step), "rate": 1.0}, 1000 + step) for step in range(1, 1201)]
    first = Tracker.start(spec, "run", {})
    for point in record[:5]:
        first.log(*point)
    assert first.flush()
    first.lose(seconds=3600.0)
    assert not first.finish()
    second = Tracker.start(spec, "run", {}, resume=first.run_id)
    second.catch_up(record)
    second.catch_up(record)
    assert second.finish()
    assert points(second, "loss") == [(step, float(step)) for step in range(1, 1201)]
    assert second._client is not None
    assert [m.timestamp for m in second._client.get_metric_history(second.run_id, "rate")] == list(range(1001, 2201))


def test_a_call_that_failed_after_it_was_carried_out_is_not_repeated(
    spec: TrackingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker.start(spec, "run", {})
    client = tracker._client
    assert client is not None
    send, sent = client.log_batch, []

    def answer_is_lost(run_id: str, metrics: list) -> None:
        send(run_id, metrics=metrics)
        sent.extend(metrics)
        if len(sent) == 1:
            raise OSError("the connection broke")

    monkeypatch.setattr(client, "log_batch", answer_is_lost)
    tracker.log(0, {"loss": 0.5}, 0)
    assert not tracker.flush()
    tracker.log(1, {"loss": 0.4}, 1)
    assert tracker.flush(force=True)
    assert [metric.step for metric in sent] == [0, 1]


def test_what_waits_is_bounded(spec: TrackingSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "MOST_WAITING", 10)
    tracker = Tracker.start(spec, "run", {})
    for step in range(15):
        tracker.log(step, {"loss": float(step)}, step)
    assert tracker.dropped == 5
    assert not tracker.finish()
    assert [step for step, _ in points(tracker, "loss")] == list(range(5, 15))


def test_a_file_that_can_not_be_read_does_not_hold_up_the_others(spec: TrackingSpec, tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("good")
    tracker = Tracker.start(spec, "run", {})
    tracker.artifact(tmp_path / "nothing.txt")
    tracker.artifact(tmp_path / "good.txt")
    assert not tracker.flush(force=True)
    assert not tracker.flush(force=True)
    assert tracker._client is not None
    assert [f.path for f in tracker._client.list_artifacts(tracker.run_id)] == ["good.txt"]


def test_disabled_tracking_takes_everything(tmp_path: Path) -> None:
    tracker = Tracker.start(TrackingSpec(enabled=False, uri="http://127.0.0.1:1"), "run", {})
    tracker.log(0, {"loss": 1.0}, 0)
    tracker.artifact(tmp_path)
    assert tracker.flush()
    assert tracker.finish()
    assert tracker.run_id is None


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://127.0.0.1:1", "can not be used"),
        ("postgresql://me:hunter2@127.0.0.1:1/db", "does not answer"),
        ("banana://x", "can not be used"),
        ("sqlite:////nowhere/mlflow.db", "can not be written"),
    ],
)
def test_a_store_that_can_not_be_reached_at_the_start(uri: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"tracking.uri: .*{message}") as caught:
        Tracker.start(TrackingSpec(uri=uri), "run", {})
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_run_that_the_store_does_not_have(spec: TrackingSpec) -> None:
    with pytest.raises(ValueError, match=r"tracking.uri: .*0123"):
        Tracker.start(spec, "run", {}, resume="0123")


def test_flatten_shortens_and_blacks_out() -> None:
    flat = flatten({"a": {"b": {"c": 1}}, "x=y": None, "k" * 300: 1, "api_key": "v", "text": {"tokens": 5}})
    assert flat == {"a.b.c": "1", "x_y": "None", "k" * 250: "1", "api_key": "[redacted]", "text.tokens": "5"}
    assert len(flatten({str(i): i for i in range(5000)})) == tracking.MOST_KEYS


def test_reachable_makes_nothing(spec: TrackingSpec, tmp_path: Path) -> None:
    assert reachable(spec) == spec.uri
    assert "first run" in reachable(TrackingSpec(uri=f"sqlite:///{tmp_path / 'none.db'}"))
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(ValueError, match="can not be used"):
        reachable(TrackingSpec(uri="http://127.0.0.1:1"))
