"""A run tracked by `mlflow server` on PostgreSQL, both real: either dies and returns, and nothing is missing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raystill.actors.record import commit_log, history
from raystill.platform.runs import folder as runs

pytestmark = [pytest.mark.chaos, pytest.mark.postgres]

PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path())
OWNER = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses root
DEADLINE = 120.0
LACKS = "MLflow lacks some of this run"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(met: Callable[[], Any], what: str) -> None:
    """Wait until this holds."""
    end = time.monotonic() + DEADLINE
    while not met():
        assert time.monotonic() < end, f"{what}: not within {DEADLINE:.0f} s"
        time.sleep(0.25)


@dataclass
class Service:
    """A server that can be killed and started again at the same place."""

    command: list[str]
    folder: Path
    answers: Callable[[], bool]
    owner: str | None = None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it answers; tries again where it can not start yet, since children of the dead one linger."""

        def up() -> bool:
            if self.process is None or self.process.poll() is not None:
                self._launch()
                time.sleep(0.2)
            return self.answers()

        until(up, f"{self.command[0]} answers; its log is {self.folder / 'log'}")

    def _launch(self) -> None:
        as_owner: dict[str, Any] = {"user": self.owner, "group": self.owner, "extra_groups": []} if self.owner else {}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True, **as_owner
            )

    def kill(self) -> int:
        """SIGKILL, workers included; returns when, in ms."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
        return int(time.time() * 1000)


@pytest.fixture(scope="module")
def postgres() -> Iterator[tuple[Service, str]]:
    """PostgreSQL with a data folder of its own, and the store's URI."""
    import psycopg2

    folder = Path(tempfile.mkdtemp(prefix="raystill-"))  # pytest's own folders are closed to other users
    if OWNER:
        shutil.chown(folder, OWNER, OWNER)
    port, as_owner = free_port(), {"user": OWNER, "group": OWNER, "extra_groups": []} if OWNER else {}
    make = [PROGRAMS / "initdb", "-D", folder / "data", "-U", "raystill", "-A", "trust", "--no-sync"]
    subprocess.run(make, check=True, cwd=folder, stdout=subprocess.DEVNULL, **as_owner)
    place = {"host": "127.0.0.1", "port": port, "user": "raystill", "dbname": "postgres"}

    def answers() -> bool:
        with contextlib.suppress(psycopg2.OperationalError):
            psycopg2.connect(**place).close()
            return True
        return False

    settings = ["-c", "listen_addresses=127.0.0.1", "-p", str(port), "-k", str(folder), "-c", "fsync=off"]
    service = Service([str(PROGRAMS / "postgres"), "-D", str(folder / "data"), *settings], folder, answers, OWNER)
    service.start()
    yield service, f"postgresql+psycopg2://raystill@127.0.0.1:{port}/postgres"
    service.kill()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(postgres: tuple[Service, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    """`mlflow server` on it, and the URI for clients."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", postgres[1], "--artifacts-destination", str(folder / "artifacts")]  # fmt: skip

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200)
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # its job runner would be three processes more
        service = Service(command, folder, answers)
        service.start()
        yield service, f"http://127.0.0.1:{port}"
        service.kill()


class Run:
    """A distillation of the digits by the command line, in a process of its own."""

    def __init__(self, uri: str, out: Path, steps: int) -> None:
        self.folder, self.steps, self.uri = out / "tracked", steps, uri
        self._process = self._command(
            "distill", "--run.out", str(out), "--run.name", "tracked", "--run.workers", "0", "--run.checkpoint_every",
            "5", "--tracking.uri", uri, "--outer.steps", str(steps), "--validation.every", "20",
            "--validation.networks", "2", "--assess.networks", "1", "--assess.baselines", "false",
        )  # fmt: skip

    def _command(self, *arguments: str) -> subprocess.Popen[str]:
        start = [sys.executable, "-m", "raystill.platform.cli", *arguments]
        return subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finished(self) -> str:
        """What it printed, once it has ended well."""
        printed, _ = self._process.communicate(timeout=DEADLINE)
        assert self._process.returncode == 0, printed
        return printed

    def resumed(self) -> str:
        """What `raystill resume` printed."""
        self._process = self._command("resume", str(self.folder))
        return self.finished()

    def reach(self, step: int) -> None:
        """Wait until the commit log has this step."""
        until(lambda: self._process.poll() is not None or len(self.committed()) >= step, f"step {step}")
        assert self._process.poll() is None, self.finished()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The run stands still, however long this takes on a busy machine."""
        self._process.send_signal(signal.SIGSTOP)
        yield
        self._process.send_signal(signal.SIGCONT)

    def committed(self) -> list[tuple[int, float, int]]:
        """(step, meta loss, time) of the commit log."""
        log = commit_log.read(self.folder / "commits").to_pylist()
        applied = [row for row in log if row["kind"] == "apply"]
        return [(row["step"] + 1, dict(row["numbers"])["meta_loss"], row["time_ms"]) for row in applied]

    def check(self) -> None:
        """The MLflow run is FINISHED and has what the commit log has: each point once, with its own time stamp."""
        from mlflow import MlflowClient

        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name(runs.load(self.folder).tracking.experiment)
        assert experiment is not None
        made = [r for r in client.search_runs([experiment.experiment_id]) if r.info.run_name == self.folder.name]
        found = max(made, key=lambda r: r.info.start_time)
        assert found.info.status == "FINISHED"
        recorded: dict[str, list[tuple[int, float, int]]] = {}
        for step, values, time_ms in history.record(self.folder, runs.load(self.folder)):
            for key, value in values.items():
                recorded.setdefault(key, []).append((step, value, time_ms))
        kept = {
            key: [(m.step, m.value, m.timestamp) for m in client.get_metric_history(found.info.run_id, key)]
            for key in found.data.metrics
        }
        assert {k: sorted(v) for k, v in kept.items()} == {k: sorted(v) for k, v in recorded.items()}
        assert sorted(kept["meta_loss"]) == self.committed()
        assert [step for step, *_ in self.committed()] == list(range(1, self.steps + 1))
        assert sorted(step for step, *_ in kept["validation_accuracy"]) == sorted(
            {*range(20, self.steps, 20), self.steps}
        )
        assert any(key.startswith("test/") for key in kept)
        files = {f.path for f in client.list_artifacts(found.info.run_id)}
        assert {"spec.yaml", "report.html", "artefact", "images"} <= files


@pytest.mark.parametrize("dies", ["server", "postgres"])
def test_a_store_that_dies_and_returns_has_everything_once(
    server: tuple[Service, str], tmp_path: Path, dies: str, request: pytest.FixtureRequest
) -> None:
    service, run = request.getfixturevalue(dies)[0], Run(server[1], tmp_path, steps=110)
    run.reach(10)
    died = service.kill()
    run.reach(25)
    with run.held():
        service.start()
        back = int(time.time() * 1000)
    assert LACKS not in run.finished()
    times = [time_ms for *_, time_ms in run.committed()]
    assert min(times) < died, "the run began when the store was away already"
    assert max(times) > back, "the store returned after the run's last step"
    assert sum(died < time_ms < back for time_ms in times) >= 10
    run.check()


def test_a_store_that_returns_after_the_run_is_filled_by_a_resume(
    postgres: tuple[Service, str], server: tuple[Service, str], tmp_path: Path
) -> None:
    database, run = postgres[0], Run(server[1], tmp_path, steps=20)
    run.reach(10)
    database.kill()
    said = [line for line in run.finished().splitlines() if LACKS in line]
    assert len(said) == 1
    assert f"raystill resume {run.folder}" in said[0]
    before = run.committed()
    database.start()
    assert LACKS not in run.resumed()
    assert run.committed() == before, "computed again"
    run.check()
