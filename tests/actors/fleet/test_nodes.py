"""Nodes that come and go: three simulated ones, of which two vanish and another joins."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raystill.actors.drive import pipeline
from raystill.actors.record import commit_log
from raystill.platform.runs import folder as runs
from raystill.platform.spec import DistillSpec
from tests.actors.test_cluster import digest, spec

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

COMMAND = [sys.executable, "-m", "raystill.platform.cli"]
QUICK = {"health_check_period_ms": 500, "health_check_failure_threshold": 4, "health_check_timeout_ms": 2000}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Any]:
    """A cluster of processes on this machine: a head without CPU slots, and what the test adds."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, connect=False,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": QUICK},
    )  # fmt: skip
    yield cluster
    cluster.shutdown()


def add(nodes: Any, cache: Path) -> Any:
    """A node with one CPU slot and a data cache of its own."""
    return nodes.add_node(num_cpus=1, object_store_memory=100 * 2**20, env_vars={"RAYSTILL_CACHE": str(cache)})


def status(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "status.json").read_text()))
    except (OSError, ValueError):
        return {}


def wait_for(process: subprocess.Popen[str], folder: Path, what: Any, seconds: float = 120) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while not what(found := status(folder)):
        assert process.poll() is None, f"the run ended: {process.communicate()}"
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return found


def start(made: DistillSpec, tmp_path: Path, **run: Any) -> tuple[subprocess.Popen[str], Path]:
    """The same spec as a process on the cluster, and its run folder."""
    config = tmp_path / "run.yaml"
    changed = made.run.model_copy(update={"out": tmp_path / "cut", **run})
    config.write_text(runs.dump(made.model_copy(update={"run": changed})))
    process = subprocess.Popen(
        [*COMMAND, "distill", "--config", str(config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={k: v for k, v in os.environ.items() if k != "RAYSTILL_CACHE"},
    )  # fmt: skip
    return process, tmp_path / "cut" / "run-1"


def computing(found: dict[str, Any]) -> int:
    return sum(row["state"] in ("computing", "idle") for row in found.get("evaluators", ()))


def test_two_of_three_nodes_vanish_and_one_joins(tmp_path: Path, nodes: Any) -> None:
    made = spec(tmp_path / "whole", 0, steps=600, members=4, chunk=1, delay=1)
    pipeline.distill(made)
    three = [add(nodes, tmp_path / f"node-{n}") for n in range(3)]
    nodes.wait_for_nodes()
    process, folder = start(made, tmp_path, workers=3, address=nodes.address, checkpoint_every=50)
    wait_for(process, folder, lambda s: computing(s) == 3 and s.get("step", 0) > 20)
    for node in three[:2]:
        nodes.remove_node(node, allow_graceful=False)
    at = wait_for(process, folder, lambda s: computing(s) <= 1 and s.get("step", 0) > 0)["step"]
    process.send_signal(signal.SIGSTOP)  # small work: without a pause the run would end before a node can join
    add(nodes, tmp_path / "node-3")
    time.sleep(8)
    process.send_signal(signal.SIGCONT)
    wait_for(process, folder, lambda s: computing(s) == 2 and s["step"] > at)
    said, wrong = process.communicate(timeout=180)
    assert process.returncode == 0, said + wrong
    assert digest(folder / "artefact") == digest(tmp_path / "whole" / "run-1" / "artefact")
    log = commit_log.read(folder / "commits").to_pylist()
    assert {r["evaluator"] for r in log if r["kind"] == "meta_gradient" and r["status"] == "ok"} == {0, 1, 2}
    assert any(r["status"] in ("lost", "returned") for r in log)
    for n in range(4):
        assert list((tmp_path / f"node-{n}").rglob("*.arrow*")), "each node has built a cache of its own"


def test_a_node_that_is_told_to_go_gets_no_more_work(tmp_path: Path, nodes: Any) -> None:
    made = spec(tmp_path / "whole", 0, steps=600, members=4, chunk=1, delay=1)
    pipeline.distill(made)
    two = [add(nodes, tmp_path / f"node-{n}") for n in range(2)]
    nodes.wait_for_nodes()
    process, folder = start(made, tmp_path, workers=2, address=nodes.address)
    wait_for(process, folder, lambda s: computing(s) == 2 and s.get("step", 0) > 20)
    notice = ["drain-node", "--address", nodes.address, "--node-id", two[0].node_id, "--reason",
              "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot",
              "--deadline-remaining-seconds", "60"]  # fmt: skip
    subprocess.run([sys.executable, "-m", "ray.scripts.scripts", *notice], check=True, capture_output=True, timeout=60)
    found = wait_for(process, folder, lambda s: any(r["state"] == "draining" for r in s.get("evaluators", ())))
    (number,) = (r["evaluator"] for r in found["evaluators"] if r["state"] == "draining")
    said, wrong = process.communicate(timeout=180)
    assert process.returncode == 0, said + wrong
    assert digest(folder / "artefact") == digest(tmp_path / "whole" / "run-1" / "artefact")
    log = [r for r in commit_log.read(folder / "commits").to_pylist() if r["kind"] == "meta_gradient"]
    assert {r["status"] for r in log} == {"ok"}, "nothing was lost"
    assert log[-1]["evaluator"] != number
    assert {r["evaluator"] for r in log} == {0, 1}
