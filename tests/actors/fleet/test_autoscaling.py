"""cluster.yaml's own node types under Ray's autoscaler, on one machine: nodes come with demand and go without."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from raystill.actors.drive import coordinator, pipeline
from raystill.actors.fleet import ray_executor, roster
from raystill.actors.record import commit_log
from raystill.platform.runs import folder as runs
from raystill.platform.seeds import Address
from tests.actors.test_cluster import digest, spec

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[3]
# named as a module: under its short name `fake_multinode`, Ray looks for defaults that its wheel does not hold
FAKE_PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
FAKE_HEAD = "ray.head.default"  # the names that the fake provider gives its head
FAKE_HEAD_ID = "f" * 51 + "00000"

# Says how many evaluator nodes there are, whenever that changes.
WATCH = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error")
last = None
while True:
    alive = [n for n in ray.nodes() if n["Alive"] and n["Labels"].get("role") == "evaluator"]
    if len(alive) != last:
        last = len(alive)
        print(last, flush=True)
    time.sleep(0.5)
"""


def faked(shipped: dict[str, Any], address: str) -> dict[str, Any]:
    """A cluster file's own node types and cap, on nodes that are processes of this machine; GPUs are only numbers."""
    types = dict(shipped["available_node_types"])
    types["evaluator"] = types["evaluator"] | {"resources": {"CPU": 1, "GPU": 1}}  # one evaluator a node, on its CPU
    types[FAKE_HEAD] = types.pop(shipped["head_node_type"]) | {"min_workers": 0, "max_workers": 0}
    kept = {key: shipped[key] for key in ("cluster_name", "max_workers")}
    commands = (
        "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
        "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter",
    )  # fmt: skip
    return kept | {key: [] for key in commands} | {
        "available_node_types": types,
        "head_node_type": FAKE_HEAD,
        "provider": {
            "type": "external", "module": FAKE_PROVIDER, "gcs_address": address, "disable_node_updaters": True,
        },
        "auth": {}, "docker": {}, "file_mounts": {}, "file_mounts_sync_continuously": False,
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 1.0,
    }  # fmt: skip


@pytest.fixture
def autoscaling_head(start_head: Callable[..., Any], free_port: Callable[[], int], tmp_path: Path) -> Any:
    """The head of cluster.yaml with its autoscaler; nodes are processes of this machine."""
    shipped = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    server = shipped["available_node_types"][shipped["head_node_type"]]
    port = free_port()
    path = tmp_path / "fake.yaml"
    path.write_text(yaml.safe_dump(faked(shipped, f"127.0.0.1:{port}")))
    labels = ",".join(f"{key}={value}" for key, value in server["labels"].items())
    return start_head(
        f"--autoscaling-config={path}", f"--num-cpus={server['resources']['CPU']}", f"--labels={labels}",
        "--include-dashboard=false", port=port,
        RAY_FAKE_CLUSTER="1", AUTOSCALER_UPDATE_INTERVAL_S="1",
        # the second autoscaler, as `ray up` has it; and how it knows its head
        RAY_enable_autoscaler_v2="1", RAY_CLOUD_INSTANCE_ID=FAKE_HEAD_ID, RAY_NODE_TYPE_NAME=FAKE_HEAD,
    )  # fmt: skip


@pytest.fixture
def evaluator_nodes(autoscaling_head: Any) -> Iterator[list[int]]:
    """The numbers of evaluator nodes so far, the latest last; grows while the test runs."""
    seen: list[int] = []
    command = [sys.executable, "-c", WATCH, autoscaling_head.address]
    watch = subprocess.Popen(command, env=autoscaling_head.environment, stdout=subprocess.PIPE, text=True)
    assert watch.stdout is not None
    stream = watch.stdout
    reader = threading.Thread(target=lambda: seen.extend(int(line) for line in stream), daemon=True)
    reader.start()
    wait_for(lambda: seen == [0], "a cluster without evaluator nodes", seen)
    yield seen
    watch.kill()
    watch.wait(10)


def wait_for(met: Callable[[], bool], what: str, seen: object, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, f"no {what} after {seconds:.0f} s: {seen}"
        time.sleep(0.2)


def test_a_run_grows_to_three_nodes_and_gives_them_back(
    autoscaling_head: Any, evaluator_nodes: list[int], tmp_path: Path
) -> None:
    whole = spec(tmp_path / "whole", 0, steps=150, members=8, chunk=1)
    pipeline.distill(whole)
    run = whole.run.model_copy(
        update={"out": tmp_path / "grown", "workers": "1:3", "address": autoscaling_head.address}
    )
    config, folder = tmp_path / "run.yaml", tmp_path / "grown" / "run-1"
    config.write_text(runs.dump(whole.model_copy(update={"run": run})))
    command = [sys.executable, "-m", "raystill.platform.cli", "distill", "--config", str(config)]
    with subprocess.Popen(
        command, env=autoscaling_head.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as driver:

        def evaluators(*states: str) -> int:
            assert driver.poll() is None, driver.communicate()
            try:
                rows = json.loads((folder / "status.json").read_text())["evaluators"]
            except (OSError, ValueError):
                return 0
            return sum(not states or row["state"] in states for row in rows)

        try:
            wait_for(lambda: evaluators() == 3, "demand for three evaluators", evaluator_nodes)
            driver.send_signal(signal.SIGSTOP)  # small work: without a pause the run would end before a node is there
            wait_for(lambda: evaluator_nodes[-1] == 3, "third node", evaluator_nodes)
            time.sleep(8)
            driver.send_signal(signal.SIGCONT)
            wait_for(lambda: evaluators("computing", "idle") == 3, "third evaluator", evaluator_nodes)
            _, wrong = driver.communicate(timeout=120)
        finally:
            driver.kill()
    assert driver.returncode == 0, wrong
    assert digest(folder / "artefact") == digest(tmp_path / "whole" / "run-1" / "artefact")
    log = commit_log.read(folder / "commits").to_pylist()
    assert {row["evaluator"] for row in log if row["kind"] == "meta_gradient"} == {0, 1, 2}
    wait_for(lambda: evaluator_nodes[-1] == 0, "end of the last node", evaluator_nodes)
    assert evaluator_nodes[:2] == [0, 1]
    assert max(evaluator_nodes) == 3


def test_evaluators_follow_the_work(tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "IDLE_SECONDS", 0.5)
    made = pipeline.make_plan(spec(tmp_path, 1, steps=1, members=12, chunk=1))
    executor = ray_executor.RayExecutor(made.spec, dict(made.synthesizer.groups), None, (1, 3), made.data.fingerprint)
    meta = executor.put(made.synthesizer.start(made.data, Address(0, stream="start")))
    items = coordinator.gradient_items(made.spec, 0, 0)
    assert len(executor.status()) == 1
    for item in items:
        executor.submit(item, meta)
    done = [executor.next(60) for _ in items]
    assert all(answer is not None and answer[0].status == "ok" for answer in done)
    assert len(executor.status()) == 3
    end = time.monotonic() + 60
    while [row["state"] for row in executor.status()] != ["idle"] and time.monotonic() < end:
        executor.next(0.5)
    assert [row["state"] for row in executor.status()] == ["idle"]
    executor.close()
