"""The section of a page with the commands that repeat the run, and the facts that its numbers depend on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import yaml
from markupsafe import Markup
from pydantic import ValidationError

from raystill.platform import recipes
from raystill.platform.artifacts import DATA
from raystill.platform.files.digests import file_digest
from raystill.platform.files.redaction import redacted
from raystill.platform.report import page, words
from raystill.platform.report.run_folder import ARTEFACT, Run
from raystill.platform.spec import DistillSpec

# fields that do not change the result: where a run is stored, computed and tracked
ASIDE = (
    "recipe",
    "initialisation.content",
    "run.name",
    "run.out",
    "run.address",
    "run.workers",
    "tracking.enabled",
    "tracking.uri",
    "tracking.experiment",
)
ELSEWHERE = ("spec", "learner", "classes", "normalisation")  # entries of the manifest with lines of their own


def provenance(run: Run) -> Markup:
    """The section."""
    parts = []
    if recipe := from_recipe(run.spec):
        parts += [page.paragraph("Or from the recipe that it started with:"), page.command(recipe)]
    facts = page.joined(Markup("<dt>{}</dt><dd>{}</dd>\n").format(*fact) for fact in _facts(run))
    parts += [page.heading("What the numbers depend on"), Markup('<dl class="about">\n{}</dl>').format(facts)]
    needs_data = run.get("data", "source") != "digits" and not run.get("data", "root")
    condition = Markup(", with <code>RAYSTILL_DATA</code> naming the folder of the data sets") if needs_data else ""
    return page.again("raystill distill --config spec.yaml", run.spec_text, *parts, condition=condition)


def from_recipe(spec: Mapping[str, Any]) -> str | None:
    """The command that repeats a run from its recipe with overrides; None where this version has no such recipe."""
    recipe = spec.get("recipe")
    if not isinstance(recipe, str) or recipe not in recipes.RECIPES:
        return None
    try:
        base = DistillSpec.model_validate(recipes.recipe(recipe))
        final = DistillSpec.model_validate(dict(spec))
    except ValidationError:
        return None  # a spec of another version: only the file has all of it
    old = _leaves(base.dump())
    line = ["raystill", "distill", "--recipe", recipe]
    for name, value in _leaves(final.dump()).items():
        # `auto` stays: it may resolve to another value on another machine
        if name not in ASIDE and old.get(name) not in (value, "auto"):
            line += [f"--{name}", _word(value)]
    return shlex.join(line)


def _word(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(_word, value))
    return value if isinstance(value, str) else str(yaml.safe_dump(value)).split("\n")[0]


def _leaves(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in spec.items():
        leaves.update(_leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return leaves


def _facts(run: Run) -> list[tuple[str, str]]:
    """All facts that the page's numbers depend on: (name, value)."""
    manifest, modality = run.distilled.manifest, run.distilled.modality
    lists = modality.companion.lists if modality.companion else ()
    facts: list[tuple[str, Any]] = [
        ("data", run.get("data", "source")),
        ("validation", _validation(run)),
        ("learner", manifest.get("learner")),
        ("classes", manifest.get("classes")),
        ("normalisation", manifest.get("normalisation")),
        (modality.name, {k: v for k, v in run.distilled.section.items() if k not in lists}),
    ]
    facts += [
        (key.replace("_", " "), value) for key, value in manifest.items() if key not in (*ELSEWHERE, modality.name)
    ]
    if run.assessment:
        tested = run.assessment.test_images
        facts += [
            ("tested on", f"{run.assessment.split} split" + (f", {modality.count(tested)}" if tested else "")),
            ("seeds of the assessment", run.assessment.seeds),
            ("assessment took", words.duration(run.assessment.seconds) if run.assessment.seconds else None),
        ]
    facts.append((f"sha256 of {DATA}", file_digest(run.path / ARTEFACT / DATA)))
    return [(name, redacted(words.value(value))) for name, value in facts if value not in (None, {}, [], "")]


def _validation(run: Run) -> str | None:
    share, seed = run.get("data", "validation"), run.get("data", "split_seed")
    if not isinstance(share, float):
        return None
    return f"{share:.0%} of train held out by split seed {seed}, unless the source has a validation split of its own"
