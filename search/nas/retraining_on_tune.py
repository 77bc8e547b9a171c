"""Retraining by Ray Tune and ASHA: candidates that lag behind after a ninth or a third of the steps are stopped.

A trial trains one architecture by the ground truth's protocol, so one that comes to its end is the network that an
evaluator would have trained, bit for bit. Which trials are stopped depends on their speed, so the table may differ from
run to run; no trial is lost. Tune keeps its experiment under the run folder as pickles of its own: trust such a folder
as you trust code.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from raystill.actors import cluster
from raystill.platform import learners
from raystill.platform.architectures import Arch, parse
from raystill.platform.files import tensors
from raystill.platform.spec import DistillSpec
from raystill.platform.work.problem import Problem
from raystill.platform.work.workbench import Workbench
from raystill.search.ranking import training
from raystill.search.ranking.levels import Protocol
from raystill.search.ranking.training import State
from raystill.search.tune.placement import fits
from raystill.search.tune.space import METRIC
from raystill.search.tune.tracking import TrialTracking

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

FOLDER, WEIGHTS = "retraining", "network.safetensors"
ETA = 3


def rungs(steps: int) -> tuple[int, ...]:
    """Minibatches after which trials are compared, and the end."""
    return tuple(dict.fromkeys(max(1, steps // ETA**k) for k in (2, 1, 0)))


class Trial(tune.Trainable):
    """Trains one architecture; a step leads to the next rung. Actors are reused: the data stay on the device."""

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        host_spec: dict[str, Any],
        protocol: Protocol,
        seed: int,
        variables: dict[str, str],
    ) -> None:
        """Load the data onto the device.

        Args:
            config: `{"architecture": text}`.
            variables: of the environment, which say where the data lie.
        """
        os.environ.update(variables)
        self._bench, self._protocol, self._seed = Workbench(DistillSpec.model_validate(host_spec)), protocol, seed
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start with another architecture."""
        bench, self._arch = self._bench, parse(str(new_config["architecture"]))
        network = self._arch.build(bench.data.shape, len(bench.data.classes))
        self._problem: Problem = bench.problem_of(learners.wrap(network))
        self._address = training.address_of(self._arch, self._seed)
        self._state, self._seconds = training.init(self._problem.learner, self._address, bench.device), 0.0
        return True

    def step(self) -> dict[str, Any]:
        """Train up to the next rung and measure validation accuracy; at the end test accuracy too."""
        began, total = time.process_time(), self._protocol.steps
        until = next((rung for rung in rungs(total) if rung > self._state.done), total)
        learner, data, evaluate = self._problem.learner, self._bench.train, self._problem.evaluate
        self._state = training.descend(learner, data, self._address, self._protocol, self._state, until)
        report = {METRIC: 100 * evaluate(self._state.theta, self._bench.validation)["accuracy"]}
        if until >= total:
            report["test"] = 100 * evaluate(self._state.theta, self._bench.test)["accuracy"]
        self._seconds += time.process_time() - began
        return {**report, "step": until, "cpu_seconds": self._seconds, "done": until >= total}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the network's state."""
        parts = {"theta": self._state.theta, "velocity": self._state.velocity}
        tensors.write(Path(checkpoint_dir) / WEIGHTS, parts, {"done": self._state.done, "seconds": self._seconds})

    def load_checkpoint(self, checkpoint: dict[Any, Any] | str | None) -> None:
        """Restore the network's state."""
        assert isinstance(checkpoint, str), "Tune gives the folder that `save_checkpoint` wrote to"
        parts, facts = tensors.read(Path(checkpoint) / WEIGHTS)
        self._seconds = facts["seconds"]
        theta, velocity = (parts[name].to(self._bench.device) for name in ("theta", "velocity"))
        self._state = State(theta, velocity, facts["done"])


def retrain(
    host_spec: DistillSpec, archs: Sequence[Arch], protocol: Protocol, folder: Path, parent: str | None
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Train architectures in a new experiment, or finish one that the folder holds.

    Args:
        host_spec: data, device, seed, tracking.
        folder: the search's; Tune's experiment lies under it.
        parent: MLflow's id of the search; each trial is a child.

    Returns:
        For each architecture {steps, validation, test, cpu_seconds}, test None where it was stopped; and by the text of
        those that came to their end their theta[P].

    Raises:
        ValueError: the cluster has no room for a trial.
        RuntimeError: no trial came to its end.
    """
    slot = {"gpu": 1.0} if host_spec.run.device == "cuda" else {"cpu": 1.0}
    cluster.connect(host_spec.run.address, None)
    fits(
        [{key.upper(): count for key, count in slot.items()}],
        [node["Resources"] for node in ray.nodes() if node["Alive"]],
    )
    trainable = tune.with_parameters(
        Trial, host_spec=host_spec.dump(), protocol=protocol, seed=host_spec.run.seed,
        variables=cluster.worker_environment()["env_vars"],
    )  # fmt: skip
    callback = TrialTracking(host_spec.tracking, parent, folder.name, METRIC)
    most = host_spec.run.fleet[1] if host_spec.run.fleet else 0
    tuner = _tuner(tune.with_resources(trainable, slot), archs, protocol, folder.absolute(), callback, most)
    results = tuner.fit()
    callback.complete(results)
    rows, weights, trouble = {}, dict[str, np.ndarray](), ""
    for result in (results[n] for n in range(len(results))):
        metrics, config = result.metrics or {}, result.config or {}
        if result.error is not None or METRIC not in metrics:  # Tune gives no error where a trial never started
            trouble = str(result.error or "a trial never started").strip().splitlines()[-1]
            continue
        rows[config["architecture"]] = {
            "steps": metrics["step"], "validation": metrics[METRIC], "test": metrics.get("test"),
            "cpu_seconds": metrics["cpu_seconds"],
        }  # fmt: skip
        if result.checkpoint is not None and metrics["step"] >= protocol.steps:
            with result.checkpoint.as_directory() as box:
                theta = tensors.read(Path(box) / WEIGHTS)[0]["theta"]
            if bool(theta.isfinite().all()):
                weights[config["architecture"]] = theta.numpy()
    missing = [arch.text for arch in archs if arch.text not in rows]
    if missing or all(row["test"] is None for row in rows.values()):
        raise RuntimeError(f"retrain: {missing or 'all'} did not come to an end; the last error: {trouble or 'none'}; "
                           f"`raystill resume {folder}` tries again")  # fmt: skip
    return [rows[arch.text] for arch in archs], weights


def _tuner(
    trainable: Any, archs: Sequence[Arch], protocol: Protocol, folder: Path, callback: TrialTracking, most: int
) -> Any:
    """The experiment, restored where the folder holds it; at most `most` trials at once, 0 for no limit."""
    # Tune's own handler of SIGINT would end the experiment as done; without it a resume can go on
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    space = {"architecture": tune.grid_search([arch.text for arch in archs])}
    if tune.Tuner.can_restore(str(folder / FOLDER)):
        return tune.Tuner.restore(
            str(folder / FOLDER), trainable, resume_unfinished=True, restart_errored=True, param_space=space
        )
    scheduler = ASHAScheduler(
        time_attr="step", max_t=protocol.steps, grace_period=rungs(protocol.steps)[0], reduction_factor=ETA,
        stop_last_trials=False,
    )  # fmt: skip
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric=METRIC, mode="max", scheduler=scheduler, reuse_actors=True, max_concurrent_trials=most or None
        ),
        run_config=tune.RunConfig(
            name=FOLDER, storage_path=str(folder), verbose=0, callbacks=[callback],
            failure_config=tune.FailureConfig(max_failures=2),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=1, checkpoint_at_end=True),
        ),
    )  # fmt: skip
