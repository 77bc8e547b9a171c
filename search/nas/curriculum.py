"""What a search trains its candidates with: the curriculum of a run or artefact, or of a recipe, distilled first."""

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
"""Rankers that use a curriculum, where there is one."""


def resolve(spec: NasSpec) -> NasSpec:
    """The spec with `auto` replaced by what it means, and the images' size by the recipe's where none is given.

    Raises:
        ValueError: no such recipe, or a ranker that needs a curriculum has none.
    """
    if spec.ranker not in TRAINED:
        return spec.model_copy(update={"curriculum": None})
    if spec.curriculum == "auto":
        name = next((name for name in of("distill") if _fits(name, spec)), None)
        if name is not None:
            print(f"distil a curriculum first, by recipe {name}; --curriculum none scores by real data instead")
        spec = spec.model_copy(update={"curriculum": name and f"recipe:{name}"})
    if spec.ranker == "curriculum" and spec.curriculum is None:
        raise ValueError("ranker: curriculum needs one; give --curriculum RUN, or --curriculum recipe:NAME")
    name = recipe_of(spec)
    if name is None:
        return spec
    if name not in of("distill"):
        raise ValueError(f"curriculum: unknown recipe {name!r}; {registry.nearest(name, of('distill'))}")
    size = spec.data.size or DistillSpec.model_validate(recipe(name)).data.size
    return spec.model_copy(update={"data": spec.data.model_copy(update={"size": size})})


def _fits(name: str, spec: NasSpec) -> bool:
    """Whether a recipe trains a generator for the search's space and data."""
    other = DistillSpec.model_validate(recipe(name))
    same = other.data.source == spec.data.source and spec.data.size in (None, other.data.size)
    return same and base(other.learner.draw) == base(spec.space)


def recipe_of(spec: NasSpec) -> str | None:
    """The recipe to distil first, where `curriculum` names one."""
    start, colon, name = (spec.curriculum or "").partition(":")
    return name if colon and start == "recipe" else None


def distillation(spec: NasSpec, folder: Path) -> DistillSpec:
    """The distillation of the search's recipe: on the search's data and evaluators, in its folder."""
    name = str(recipe_of(spec))
    storage = f"{spec.run.storage.rstrip('/')}/{folder.name}" if spec.run.storage else None
    run = spec.run.model_copy(update={"name": "curriculum", "out": folder, "faults": (), "storage": storage})
    own = {"recipe": name, "run": run.model_dump(mode="json"), "data": spec.data.model_dump(mode="json")}
    quiet = {"tracking": {"enabled": False}, "assess": {"baselines": False}}
    return DistillSpec.model_validate(options.merge(recipe(name), {**own, **quiet}))


def check(spec: NasSpec) -> Distilled | None:
    """The artefact that a resolved spec names, before any work; for a recipe None, once its plan was made.

    Raises:
        ValueError: there is no such artefact, or the recipe does not fit the search's data.
    """
    if recipe_of(spec) is None:
        return None if spec.curriculum is None else evaluators.curriculum(spec.curriculum)
    first = distillation(spec, spec.run.out)
    make_plan(first.model_copy(update={"run": first.run.model_copy(update={"storage": None})}))
    return None


def load_or_distil(spec: NasSpec, folder: Path) -> Distilled | None:
    """The curriculum, distilled now where a recipe has not been yet; None where real data score."""
    if recipe_of(spec) is None:
        return check(spec)
    home = folder / "curriculum"
    if not (home / "artefact").is_dir():
        if (home / "spec.yaml").is_file():
            pipeline.resume(home, workers=spec.run.workers)
        else:
            pipeline.distill(distillation(spec, folder))
    return evaluators.curriculum(str(home))
