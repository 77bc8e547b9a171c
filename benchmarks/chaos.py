"""A distillation under a random schedule of faults, beside an undisturbed one: what it costs, and if a bit changes.

    python benchmarks/chaos.py --json [--minutes 5] [--seed 0]

A cluster of processes on this machine (a head, two nodes of one CPU slot each) runs the same distillation three times:
in one process (the bits that must come out), on two evaluators undisturbed (the speed), and under faults of every kind:

    evaluator killed by SIGKILL, raising, hanging, ten times slower, returning NaN, with a full object store; a node
    removed abruptly and replaced; the parameter server killed; the driver killed by SIGKILL and resumed; the disk full
    at a checkpoint; a checkpoint torn; the tracking server killed and started again.

Keys of the JSON: `faults` (struck, by kind), `recovery_s` (median seconds, by kind, until what was struck works again),
`survivors_rate` (members/s of the other evaluator while one is down, over undisturbed), `lost` (steps or items that are
missing in the end), `steps_repeated`, `seconds_lost`, `hangs`, `bit_identical`, `tracked_once`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from raystill.actors.drive import pipeline
from raystill.actors.record import commit_log
from raystill.platform import runs, seeds
from raystill.platform.spec import DistillSpec

COMMAND = [sys.executable, "-m", "raystill.platform.cli"]
DETECTION = {"health_check_period_ms": 500, "health_check_failure_threshold": 4, "health_check_timeout_ms": 2000}
DEADLINE = 8.0
SILENCE = 120.0
"""Seconds without a new row in the commit log after which a run counts as hung."""

INJECTED = (
    "evaluator 0 at step {}: kill", "evaluator 1 at step {}: kill", "evaluator 1 at step {}: exception",
    "evaluator 0 at step {}: hang", "evaluator 1 at step {}: slow", "evaluator 0 at step {}: nan",
    "evaluator 1 at step {}: full", "server at step {}: kill", "checkpoint at step {}: full",
    "checkpoint at step {}: torn",
)  # fmt: skip


def spec(out: Path, steps: int, **run: Any) -> DistillSpec:
    """MNIST where it is, else digits; LeNet members of about a tenth of a second."""
    source = "mnist" if "RAYSTILL_DATA" in os.environ else "digits"
    return DistillSpec.model_validate({
        "data": {"source": source},
        "learner": {"name": "lenet"} if source == "mnist" else {"name": "convnet", "width": 16},
        "synthesizer": {"steps": 5, "epochs": 2, "start": "average"},
        "inner": {"lr": 0.02, "momentum": 0.5, "learn_momentum": True},
        "outer": {"steps": steps, "members": 2, "chunk": 1, "delay": 1, "batch_size": 256, "clip_relative": 3.0},
        "validation": {"every": 50, "networks": 2, "images": 500},
        "assess": {"networks": 2, "baselines": False},
        "run": {"out": out, "name": "run", "checkpoint_every": 10, "deadline": DEADLINE, "device": "cpu", **run},
        "tracking": {"enabled": False},
    })  # fmt: skip


def digest(folder: Path) -> str:
    """sha256 of a run's result."""
    return hashlib.sha256((folder / "artefact" / "data.parquet").read_bytes()).hexdigest()


def rows(folder: Path) -> list[dict[str, Any]]:
    """The commit log so far."""
    return commit_log.read(folder / "commits").to_pylist() if (folder / "commits").is_dir() else []


def status(folder: Path) -> dict[str, Any]:
    """The run's newest status."""
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads((folder / "status.json").read_text()))
    return {}


class Tracking:
    """An MLflow server that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"
        self.start()
        end = time.monotonic() + 90
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            if time.monotonic() > end:
                raise TimeoutError("mlflow server does not start")
            time.sleep(0.2)

    def start(self) -> None:
        """Start it; the same store, the same port."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
                   "--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}",
                   "--artifacts-destination", str(self.folder / "mlartifacts")]  # fmt: skip
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip

    def kill(self) -> None:
        """SIGKILL for the server and its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Run:
    """The command line, started again as a user would whenever its driver is killed."""

    def __init__(self, made: DistillSpec, folder: Path) -> None:
        self.folder, self.config = folder, folder.parent / f"{folder.name}.yaml"
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(runs.dump(made))
        self.words = ["distill", "--config", str(self.config)]
        self.errors = (folder.parent / f"{folder.name}.err").open("w+")
        self.start()

    def start(self) -> None:
        """Start or go on."""
        self.process = subprocess.Popen([*COMMAND, *self.words], stdout=subprocess.DEVNULL, stderr=self.errors)
        self.words = ["resume", str(self.folder)]

    @property
    def said(self) -> str:
        """What the command printed on standard error."""
        self.errors.seek(0)
        return self.errors.read()[-2000:]


class Chaos:
    """The disturbed run, and what strikes it from outside."""

    def __init__(self, run: Run, cluster: Any, tracking: Tracking, rng: np.random.Generator) -> None:
        self.run, self.cluster, self.tracking, self.rng = run, cluster, tracking, rng
        self.struck: list[tuple[str, float, float]] = []  # kind, when, seconds to recover

    def _until(self, what: Any, seconds: float = SILENCE) -> float:
        began = time.monotonic()
        while not what():
            if self.run.process.poll() is not None or time.monotonic() - began > seconds:
                break
            time.sleep(0.05)
        return time.monotonic() - began

    def _step(self) -> int:
        return int(status(self.run.folder).get("step", 0))

    def driver(self) -> None:
        """SIGKILL, then `raystill resume`; recovered when it makes a new step."""
        self.run.process.kill()
        self.run.process.wait()
        now, logged = time.time(), len(rows(self.run.folder))
        self.run.start()

        def applied() -> bool:
            return any(r["kind"] == "apply" for r in rows(self.run.folder)[logged:])

        self.struck.append(("driver kill", now, self._until(applied)))

    def node(self) -> None:
        """A node vanishes with its evaluator; another takes its place."""
        node = sorted(self.cluster.worker_nodes, key=lambda n: str(n.node_id))[int(self.rng.integers(2))]
        now = time.time()
        self.cluster.remove_node(node, allow_graceful=False)
        self.cluster.add_node(num_cpus=1, object_store_memory=150 * 2**20)

        def busy() -> bool:
            found = status(self.run.folder)
            states = [row["state"] for row in found.get("evaluators", ())]
            return found.get("time", 0.0) > now + 3 and sum(s in ("computing", "idle") for s in states) == 2

        self.struck.append(("node kill", now, self._until(busy)))

    def tracker(self) -> None:
        """The tracking server is killed, and comes back after a few seconds."""
        now = time.time()
        self.tracking.kill()
        time.sleep(8)
        self.tracking.start()
        self.struck.append(("tracking kill", now, time.time() - now))


def recoveries(log: list[dict[str, Any]]) -> tuple[list[tuple[str, float]], list[float]]:
    """From the log: (kind, seconds until the struck part worked again), and survivors' busy share meanwhile.

    An evaluator has recovered when it commits an item again, a server when a step is applied again.
    """
    found, shares = [], []
    for at, row in enumerate(log):
        if row["kind"] != "fault":
            continue
        kind = row["error"].replace(f" {row['evaluator']}", "").split(" at step")[0] + " " + row["error"].split(": ")[1]
        after = log[at + 1 :]
        began = row["time_ms"]
        if row["error"].startswith("evaluator"):
            gone = [r for r in after if r["evaluator"] == row["evaluator"] and r["status"] == "lost"]
            if kind.endswith(("kill", "hang")):
                if not gone:  # the driver was killed before it saw the loss
                    continue
                # the log has the dispatch; a killed process dies when the item's turn comes, just before `lost`
                began = gone[0]["time_ms"] if kind.endswith("kill") else began
                after = after[after.index(gone[0]) + 1 :]
            back = [r for r in after if r["evaluator"] == row["evaluator"] and r["status"] == "ok"]
        else:
            back = [r for r in after if r["kind"] == "apply"]
        if not back:
            continue
        end = back[0]["time_ms"]
        found.append((kind, (end - began) / 1000))
        if kind == "evaluator kill" and end - began > 1500:
            others = [r for r in after if r["evaluator"] not in (row["evaluator"], -1) and r["status"] == "ok"
                      and r["time_ms"] <= end and r["kind"] == "meta_gradient"]  # fmt: skip
            if len(others) > 2:
                shares.append(len(others[1:]) / ((others[-1]["time_ms"] - others[0]["time_ms"]) / 1000))
    return found, shares


def rate(log: list[dict[str, Any]]) -> float:
    """Members per second of one evaluator, undisturbed: the median over ten-second pieces."""
    done = [
        r["time_ms"] / 1000 for r in log if r["kind"] == "meta_gradient" and r["status"] == "ok" and r["evaluator"] == 0
    ]
    pieces = Counter(int((t - done[0]) // 5) for t in done)
    return statistics.median([pieces[k] / 5 for k in sorted(pieces)[1:-1]] or [len(done) / (done[-1] - done[0])])


def missing(log: list[dict[str, Any]], made: DistillSpec) -> int:
    """Steps that were never applied, and items of applied steps that were never committed."""
    applied = {r["step"]: r for r in log if r["kind"] == "apply"}
    items = {(r["step"], r["member"]) for r in log if r["kind"] == "meta_gradient" and r["status"] == "ok"}
    wanted = {(s, m) for s in range(made.outer.steps) for m in range(made.outer.members)}
    return len(set(range(made.outer.steps)) - set(applied)) + len(wanted - items)


def tracked_once(uri: str, steps: int) -> bool:
    """Whether the store has one run, and each step of it once."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("raystill")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    history = [m.step for m in client.get_metric_history(found[0].info.run_id, "meta_loss")] if found else []
    return len(found) == 1 and sorted(history) == list(range(1, steps + 1))


def wait(run: Run, deadline: float, each: Any) -> int:
    """Until the command ends; returns the silences longer than SILENCE."""
    hangs, heard, count = 0, time.monotonic(), 0
    while run.process.poll() is None:
        if (now := len(rows(run.folder))) != count:
            count, heard = now, time.monotonic()
        elif time.monotonic() - heard > SILENCE:
            hangs, heard = hangs + 1, time.monotonic()
            run.process.kill()
        each()
        time.sleep(0.2)
        if time.monotonic() > deadline:
            run.process.kill()
            raise TimeoutError(f"the run did not end; it said: {run.said}")
    return hangs


def main() -> None:
    """Print the figures, or one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="of the disturbed run, about")
    parser.add_argument("--seed", type=int, default=0, help="of the schedule")
    parser.add_argument("--json", action="store_true", help="one JSON line on standard output, nothing else")
    args = parser.parse_args()
    for name, value in (
        ("OMP_NUM_THREADS", "1"),
        ("RAY_USAGE_STATS_ENABLED", "0"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
    ):
        os.environ.setdefault(name, value)
    from ray.cluster_utils import Cluster

    rng = seeds.numpy_rng(seeds.Address(args.seed))
    with tempfile.TemporaryDirectory() as temporary, contextlib.redirect_stdout(sys.stderr):
        folder = Path(temporary)
        cluster = Cluster(
            initialize_head=True, connect=False,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": DETECTION},
        )  # fmt: skip
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=150 * 2**20)
        cluster.wait_for_nodes()
        tracking = Tracking(folder)
        try:
            result = measure(args.minutes, rng, folder, cluster, tracking)
        finally:
            tracking.kill()
            cluster.shutdown()
    print(json.dumps(result) if args.json else "\n".join(f"{k:20s} {v}" for k, v in result.items()))


def measure(minutes: float, rng: np.random.Generator, folder: Path, cluster: Any, tracking: Tracking) -> dict[str, Any]:
    """The three runs."""
    run_options = {"workers": 2, "address": cluster.address}
    trial = Run(spec(folder / "trial", 200, **run_options), folder / "trial" / "run")
    wait(trial, time.monotonic() + 300, lambda: None)
    assert trial.process.returncode == 0, trial.said
    applied = [r["time_ms"] / 1000 for r in rows(trial.folder) if r["kind"] == "apply"]
    speed = (len(applied) - 20) / (applied[-1] - applied[19])  # steps per second
    steps = max(150, int(0.6 * minutes * 60 * speed))

    whole = spec(folder / "whole", steps, workers=0)
    began = time.monotonic()
    pipeline.distill(whole)
    print(f"in one process: {steps} steps in {time.monotonic() - began:.0f} s", flush=True)

    count = max(20, int(4 * minutes))
    lines = [*INJECTED, *(str(line) for line in rng.choice(INJECTED, count - len(INJECTED)))]
    places = sorted(5 + rng.choice(steps - 20, len(lines), replace=False))
    lines = [lines[k] for k in rng.permutation(len(lines))]
    faults = tuple(line.format(place) for line, place in zip(lines, places, strict=True))
    made = spec(folder / "cut", steps, faults=faults, **run_options)
    made = made.model_copy(update={"tracking": made.tracking.model_copy(update={"enabled": True, "uri": tracking.uri})})
    began = time.monotonic()
    run = Run(made, folder / "cut" / "run")
    chaos = Chaos(run, cluster, tracking, rng)
    outside = [chaos.driver, chaos.node, chaos.tracker, chaos.driver, chaos.node]
    due = sorted(int(k) for k in steps // 10 + rng.choice(7 * steps // 10, len(outside), replace=False))

    def strike() -> None:
        if due and chaos._step() >= due[0]:
            due.pop(0)
            outside.pop(0)()

    hangs = wait(run, began + 60 * minutes * 4 + 300, strike)
    seconds = time.monotonic() - began
    assert run.process.returncode == 0, run.said
    log = rows(run.folder)
    inside, survivors = recoveries(log)
    undisturbed = rate(rows(trial.folder))
    by_kind: dict[str, list[float]] = {}
    for kind, took in [*inside, *((kind, took) for kind, _, took in chaos.struck)]:
        by_kind.setdefault(kind, []).append(took)
    struck = Counter(r["error"].split(" at step")[0].rstrip(" 01") + " " + r["error"].split(": ")[1]
                     for r in log if r["kind"] == "fault")  # fmt: skip
    struck.update(kind for kind, *_ in chaos.struck)
    repeated = Counter(r["step"] for r in log if r["kind"] == "apply")
    return {
        "steps": steps, "members_per_second_undisturbed": 2 * speed, "faults": dict(struck),
        "faults_total": sum(struck.values()),
        "recovery_s": {k: round(statistics.median(v), 2) for k, v in sorted(by_kind.items())},
        "survivors_rate": round(statistics.median(survivors) / undisturbed, 3) if survivors else None,
        "survivors_measured": len(survivors), "lost": missing(log, made),
        "steps_repeated": sum(n - 1 for n in repeated.values()),
        "seconds": round(seconds, 1), "seconds_lost": round(seconds - steps / speed, 1), "hangs": hangs,
        "bit_identical": digest(run.folder) == digest(whole.run.out / "run"),
        "tracked_once": tracked_once(tracking.uri, steps),
    }  # fmt: skip


if __name__ == "__main__":
    main()
