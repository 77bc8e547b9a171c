"""Ray Tune: a trial is one setting with all of its seeds; the teacher's logits reach it by reference.

Tune keeps its experiment under the run folder, as pickles that a resume reads: trust a run folder of
this kind as you trust code. Trials may end in another order where the machine is shared, and then Optuna
and ASHA choose other settings: for a search that gives the same choice again take `grid` or `halving`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from raystill.actors import cluster
from raystill.platform.files import arrays
from raystill.platform.spec import DistillSpec
from raystill.platform.work.student_grid import Cohort, StudentsOptions, cohort
from raystill.platform.work.workbench import Workbench
from raystill.search.temperature.settings import StudentScore
from raystill.search.temperature.spec import TemperatureSpec

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")


class Trial(tune.Trainable):
    """One setting, all seeds; a step is one rung. Actors are reused: the data stay, the students change."""

    group: Cohort

    def setup(  # type: ignore[override]
        self, config: dict[str, float], host_spec: dict[str, Any], spec: dict[str, Any], logits: np.ndarray
    ) -> None:
        """Load the data onto the device.

        Args:
            config: `temperature` and `alpha`.
            logits: the teacher's, [N, K].
        """
        self._bench, self._spec = Workbench(DistillSpec.model_validate(host_spec)), TemperatureSpec.model_validate(spec)
        self._logits = logits
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, float]) -> bool:
        """Start the students of another setting."""
        student, search = self._spec.student, self._spec.search
        learner, seeds = self._spec.learner(self._spec.widths[0]), tuple(range(search.seeds))
        settings = ((new_config["temperature"], new_config["alpha"]),)
        options = StudentsOptions(learner, student.training, settings, seeds, search.stack)
        self.group = cohort(self._bench, options, {"logits": self._logits})
        return True

    def step(self) -> dict[str, Any]:
        """Train up to the next rung, or to the end where rungs do not count."""
        lengths = self._spec.lengths if self._spec.search.method == "asha" else self._spec.lengths[-1:]
        self.group.advance(next(length for length in lengths if length > self.group.done) - self.group.done)
        accuracies = self.group.accuracies(self._bench.validation)[:, 0]
        return {"accuracy": float(accuracies.mean()), "steps": self.group.done, "seeds": [float(a) for a in accuracies],
                "done": self.group.done >= lengths[-1]}  # fmt: skip

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the students' state."""
        arrays.write(Path(checkpoint_dir) / "students.safetensors", self.group.state(), {})

    def load_checkpoint(self, checkpoint: dict[Any, Any] | str | None) -> None:
        """Restore the students' state."""
        assert isinstance(checkpoint, str), "Tune gives the folder that `save_checkpoint` wrote to"
        self.group.restore(arrays.read(Path(checkpoint) / "students.safetensors")[0])


def trainable(host_spec: DistillSpec, spec: TemperatureSpec, logits: np.ndarray) -> Any:
    """What Tune runs: one slot of the evaluators' kind for each trial."""
    gpu = host_spec.run.device == "cuda"
    body = tune.with_parameters(Trial, host_spec=host_spec.dump(), spec=spec.dump(), logits=logits)
    return tune.with_resources(body, {"gpu": 1} if gpu else {"cpu": 1})


def _tpe(spec: TemperatureSpec) -> dict[str, Any]:
    from ray.tune.search.optuna import OptunaSearch

    return {"search_alg": OptunaSearch(seed=spec.run.seed)}


def _asha(spec: TemperatureSpec) -> dict[str, Any]:
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.basic_variant import BasicVariantGenerator

    scheduler = ASHAScheduler(
        time_attr="steps", max_t=spec.lengths[-1], grace_period=spec.lengths[0], reduction_factor=spec.search.eta
    )
    return {"search_alg": BasicVariantGenerator(random_state=spec.run.seed), "scheduler": scheduler}


METHODS: dict[str, Callable[[TemperatureSpec], dict[str, Any]]] = {"tpe": _tpe, "asha": _asha}
"""Searchers of Ray Tune: spec -> arguments of a TuneConfig."""


def search(host_spec: DistillSpec, spec: TemperatureSpec, logits: np.ndarray, folder: Path) -> list[StudentScore]:
    """Students of every trial of a search by Ray Tune, new or resumed.

    Args:
        logits: the teacher's, [N, K].
        folder: the run's; Tune's experiment lies under it.

    Raises:
        RuntimeError: no trial came to its end.
    """
    cluster.connect(spec.run.address, None)
    experiment, body = folder.absolute() / "tune", trainable(host_spec, spec, logits)
    if tune.Tuner.can_restore(str(experiment)):
        tuner = tune.Tuner.restore(str(experiment), body, resume_unfinished=True, restart_errored=True)
    else:
        tuner = _new(spec, body, folder)
    rows, trouble = [], ""
    results = tuner.fit()
    for result in (results[i] for i in range(len(results))):
        metrics = result.metrics or {}
        if result.error is not None or "seeds" not in metrics:  # Tune gives no error where a trial never started
            trouble = str(result.error or "a trial never started").strip().splitlines()[-1]
            continue
        config = result.config or {}
        t, a = config["temperature"], config["alpha"]
        rows += [
            StudentScore(spec.widths[0], t, a, seed, metrics["steps"], accuracy)
            for seed, accuracy in enumerate(metrics["seeds"])
        ]
    if not any(row.steps == spec.lengths[-1] for row in rows):
        raise RuntimeError(f"no trial came to its end; the last error: {trouble or 'none'}")
    if trouble:
        print(f"warning: trials failed; the last error: {trouble}", flush=True)
    return sorted(rows)  # Tune may list its trials in another order on a resume, and the first wins a tie


def _new(spec: TemperatureSpec, body: Any, folder: Path) -> Any:
    search = spec.search
    low, high = min(search.temperatures), max(search.temperatures)
    least, most = min(search.alphas), max(search.alphas)
    space = {
        "temperature": tune.loguniform(low, high) if low < high else tune.choice([low]),
        "alpha": tune.uniform(least, most) if least < most else tune.choice([least]),
    }
    fleet = spec.run.fleet
    config = tune.TuneConfig(
        metric="accuracy", mode="max", num_samples=search.trials, reuse_actors=True,
        max_concurrent_trials=max(1, fleet[1]) if fleet else None, **METHODS[search.method](spec),
    )  # fmt: skip
    run = tune.RunConfig(
        name="tune", storage_path=str(folder.absolute()), verbose=0, failure_config=tune.FailureConfig(max_failures=2)
    )
    return tune.Tuner(body, param_space=space, tune_config=config, run_config=run)
