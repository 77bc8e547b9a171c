"""Where a search works: its evaluators, and the curricula that it is given by name."""

from __future__ import annotations

from pathlib import Path

from raystill.actors.drive.plan import Plan, make_plan
from raystill.platform.artifacts import Distilled, load_distilled
from raystill.platform.spec import DataSpec, DistillSpec, InnerSpec, LearnerSpec, RunSpec, TrackingSpec
from raystill.search.ranking.rankers import KINDS
from raystill.search.ranking.scoring import check_fit


def host_spec(data: DataSpec, run: RunSpec, tracking: TrackingSpec, objective: str = "cross_entropy") -> DistillSpec:
    """The spec that evaluators of a search are built from; nothing is distilled, so its learner is not used."""
    learner = LearnerSpec(name="linear")
    return DistillSpec(data=data, learner=learner, inner=InnerSpec(objective=objective), run=run, tracking=tracking)


def curriculum(place: str) -> Distilled:
    """The artefact of a run's folder, or at a path.

    Raises:
        ValueError: there is none.
    """
    path = Path(place)
    return load_distilled(path / "artefact" if (path / "artefact").is_dir() else path)


def objective(found: Distilled | None) -> str:
    """The inner objective that a curriculum was made for."""
    spec = {} if found is None else found.manifest.get("spec", {})
    return str(spec.get("inner", {}).get("objective", "cross_entropy"))


def planned(
    data: DataSpec,
    run: RunSpec,
    tracking: TrackingSpec,
    found: Distilled | None,
    where: str = "",
    resumed: bool = False,
) -> Plan:
    """A plan whose evaluators can score, checked against the data and the curriculum.

    Raises:
        ValueError: one clear line about what is wrong.
    """
    plan = make_plan(host_spec(data, run, tracking, objective(found)), {"kinds": KINDS}, resumed)
    if found is not None:
        check_fit(found, plan.data, where)
    return plan
