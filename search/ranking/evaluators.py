"""The evaluators of a search, and the curricula that a spec names."""

from __future__ import annotations

from pathlib import Path

from raystill.actors.drive.plan import Plan, make_plan
from raystill.platform.artifacts import Distilled, load_distilled
from raystill.platform.spec import DataSpec, DistillSpec, InnerSpec, LearnerSpec, RunSpec, TrackingSpec
from raystill.search.ranking.rankers import WORK
from raystill.search.ranking.scoring import check_fit


def host_spec(data: DataSpec, run: RunSpec, tracking: TrackingSpec, objective: str = "cross_entropy") -> DistillSpec:
    """The spec that evaluators of a search are built from; nothing is distilled, so its learner is not used.

    Args:
        objective: the inner objective, by which networks are trained on a curriculum.
    """
    learner = LearnerSpec(name="linear")
    return DistillSpec(data=data, learner=learner, inner=InnerSpec(objective=objective), run=run, tracking=tracking)


def curriculum(path: str) -> Distilled:
    """The artefact of a run's folder, or of a folder of its own.

    Raises:
        ValueError: there is none.
    """
    run = Path(path) / "artefact"
    return load_distilled(run if run.is_dir() else Path(path))


def objective(distilled: Distilled | None) -> str:
    """The inner objective that a curriculum was trained with."""
    spec = {} if distilled is None else distilled.manifest.get("spec", {})
    return str(spec.get("inner", {}).get("objective", "cross_entropy"))


def planned(
    data: DataSpec,
    run: RunSpec,
    tracking: TrackingSpec,
    distilled: Distilled | None,
    where: str = "",
    resumed: bool = False,
) -> Plan:
    """A plan whose evaluators can score, checked against the data and the curriculum.

    Args:
        distilled: the curriculum, None where there is none.
        where: its name, for errors.

    Raises:
        ValueError: one clear line about what is wrong.
    """
    plan = make_plan(host_spec(data, run, tracking, objective(distilled)), {"kinds": WORK}, resumed)
    if distilled is not None:
        check_fit(distilled, plan.data, where)
    return plan
