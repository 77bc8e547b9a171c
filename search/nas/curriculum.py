"""What a search scores by: a run's or an artefact's curriculum, or one that a recipe makes first, in its folder."""

from __future__ import annotations

from pathlib import Path

from raystill.actors.drive import pipeline
from raystill.actors.drive.plan import make_plan
from raystill.platform import registry
from raystill.platform.architectures import base
from raystill.platform.artifacts import Distilled
from raystill.platform.command_line import options
from raystill.platform.recipes import of, recipe
from raystill.platform.spec import DistillSpec
from raystill.search.nas.spec import NasSpec
from raystill.search.ranking import evaluators

TRAINED = ("combined", "curriculum")
"""Rankers that ask a curriculum, where there is one."""


def settled(spec: NasSpec) -> NasSpec:
    """The spec with `auto` replaced by what it means, and the images' size by the recipe's where none is given.

    Raises:
        ValueError: no such recipe, or a ranker that needs a curriculum has none.
    """
    if spec.ranker not in TRAINED:
        return spec.model_copy(update={"curriculum": None})
    if spec.curriculum == "auto":
        name = next((name for name in of("distill") if _teaches(name, spec)), None)
        if name is not None:
            print(f"scored by the curriculum of recipe {name}, made first; --curriculum none scores by real data")
        spec = spec.model_copy(update={"curriculum": name and f"recipe:{name}"})
    if spec.ranker == "curriculum" and spec.curriculum is None:
        raise ValueError("ranker: curriculum needs one; give --curriculum RUN, or --curriculum recipe:NAME")
    name = named(spec)
    if name is None:
        return spec
    if name not in of("distill"):
        raise ValueError(f"curriculum: unknown recipe {name!r}; {registry.nearest(name, of('distill'))}")
    size = spec.data.size or DistillSpec.model_validate(recipe(name)).data.size
    return spec.model_copy(update={"data": spec.data.model_copy(update={"size": size})})


def _teaches(name: str, spec: NasSpec) -> bool:
    """Whether a recipe is of a generator that teaches the search's space on its data."""
    made = DistillSpec.model_validate(recipe(name))
    same = made.data.source == spec.data.source and spec.data.size in (None, made.data.size)
    return same and base(made.learner.draw) == base(spec.space)


def named(spec: NasSpec) -> str | None:
    """The recipe that is distilled first, where `curriculum` names one."""
    start, colon, name = (spec.curriculum or "").partition(":")
    return name if colon and start == "recipe" else None


def first(spec: NasSpec, folder: Path) -> DistillSpec:
    """The distillation that comes before a search by a recipe: on the search's data and evaluators, in its folder."""
    name = str(named(spec))
    storage = f"{spec.run.storage.rstrip('/')}/{folder.name}" if spec.run.storage else None
    run = spec.run.model_copy(update={"name": "curriculum", "out": folder, "faults": (), "storage": storage})
    own = {"recipe": name, "run": run.model_dump(mode="json"), "data": spec.data.model_dump(mode="json")}
    quiet = {"tracking": {"enabled": False}, "assess": {"baselines": False}}
    return DistillSpec.model_validate(options.merge(recipe(name), {**own, **quiet}))


def checked(spec: NasSpec) -> Distilled | None:
    """The artefact that a settled spec names, before anything is made; of a recipe there is none yet, but a plan.

    Raises:
        ValueError: there is no such artefact, or the recipe does not fit the search's data.
    """
    if named(spec) is None:
        return None if spec.curriculum is None else evaluators.curriculum(spec.curriculum)
    made = first(spec, spec.run.out)
    make_plan(made.model_copy(update={"run": made.run.model_copy(update={"storage": None})}))
    return None


def curriculum(spec: NasSpec, folder: Path) -> Distilled | None:
    """The curriculum, distilled now where a recipe is to make it and has not; None where real data score."""
    if named(spec) is None:
        return checked(spec)
    home = folder / "curriculum"
    if not (home / "artefact").is_dir():
        if (home / "spec.yaml").is_file():
            pipeline.resume(home, workers=spec.run.workers)
        else:
            pipeline.distill(first(spec, folder))
    return evaluators.curriculum(str(home))
