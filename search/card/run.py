"""A level's card from nothing but its ground truth and curricula: what `raystill search card` does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raystill.actors.drive.session import open_session
from raystill.platform import runs
from raystill.platform.architectures import Arch, base, parse
from raystill.platform.artifacts import Distilled
from raystill.platform.files.storage import write_whole
from raystill.platform.spec import TrackingSpec
from raystill.search.card import comparison, rankings
from raystill.search.card import page as card_page
from raystill.search.card.spec import CardSpec
from raystill.search.ranking import evaluators, ground_truth, levels
from raystill.search.ranking.scoring import Ranking, Scorer, fitting

CARD, PAGE = "card.json", "report.html"
Data = tuple[Sequence[Distilled], Distilled | None, Mapping[str, Distilled]]
"""Curricula, the untrained generator's, and more by their names."""
HERE = Path(__file__).resolve().parents[2] / "benchmarks" / "data"
"""Of a checkout; an installed wheel has none, and is told where the files lie."""


def rank_card(spec: CardSpec, tell: Callable[[str], None] = print) -> tuple[dict[str, Any], Any, Path]:
    """The card, the scores by ranker (None where the card does not speak), and the run's folder.

    Raises:
        ValueError: unknown level, no ground truth, other data than its own, or a curriculum that does not fit.
    """
    level = levels.level(spec.level)
    table = _table(spec)
    if spec.equal_seconds and spec.meta_seconds is None:
        raise ValueError("equal_seconds: needs meta_seconds, the CPU seconds of the curriculum's training")
    data = _data(spec)
    curricula, untrained, also = data
    asked = [*zip(curricula, spec.curriculum), *zip(also.values(), spec.also)]
    asked += [(untrained, str(spec.untrained))] if untrained is not None else []
    found, where = asked[0] if asked else (None, "")
    plan = evaluators.planned(level.data, spec.run, TrackingSpec(enabled=False), found, where)
    for other, name in asked[1:]:
        fitting(other, plan.data, name)
    if plan.data.fingerprint != table.fingerprint:
        raise ValueError(
            f"search.truth: was made from data {table.fingerprint[:12]}, these are {plan.data.fingerprint[:12]}"
        )
    kept = spec.model_copy(update={"run": plan.spec.run.model_copy(update={"workers": spec.run.workers})})
    folder = runs.create(kept, "search card", f"card-{spec.level}")
    return *carry_out(kept, folder, tell), folder


def carry_out(
    spec: CardSpec, folder: Path, tell: Callable[[str], None] = print, resumed: bool = False
) -> tuple[dict[str, Any], Any]:
    """The card and its scores; what the folder's commit log has is not computed again. `card.json` and the page."""
    table, level = _table(spec), levels.level(spec.level)
    found, scores = comparison.compare(table, {}, {}, resamples=100), None
    if found["speaks"]:
        data, began = _data(spec), time.monotonic()
        plan = evaluators.planned(
            level.data, spec.run, TrackingSpec(enabled=False), (*data[0], data[1])[0], "", resumed
        )
        with open_session(plan, folder) as session:
            scores, seconds, facts = scored(Scorer(session, spec.seed), spec, table.archs, data, tell)
        rankings.combined(scores, seconds)
        found = comparison.compare(table, scores, seconds, spec.meta_seconds, spec.resamples)
        keys = {arch.key for arch in table.archs}
        found |= {
            "level": spec.level, "seed": spec.seed, "meta_seconds": spec.meta_seconds, **facts,
            "held_out": {name: held_out(d, keys, base(level.space)) for name, d in _trained(data).items()},
            "wall_seconds": time.monotonic() - began,
        }  # fmt: skip
        for name in (n for n, kept in found["held_out"].items() if kept is False):
            tell(f"warning: {name}: was trained with architectures of this card, or may have been; learner.exclude "
                 "leaves them out")  # fmt: skip
        if "gtn" in seconds and spec.meta_seconds:
            each, truths = seconds["gtn"] / len(table.archs), float(np.nanmean(table.seconds))
            found["break_even_against_full_training"] = comparison.break_even(spec.meta_seconds, each, truths)
    write_whole(folder / CARD, json.dumps(found, indent=1).encode())
    page = card_page.page(found, scores, table)
    write_whole(folder / PAGE, page.encode())
    return found, scores


def resume(folder: Path, workers: int | str | None = None) -> dict[str, Any]:
    """Go on with a card that was stopped or killed.

    Raises:
        ValueError: not a card.
    """
    spec = runs.load_as(CardSpec, folder)
    changes: dict[str, Any] = {"out": folder.absolute().parent} | ({} if workers is None else {"workers": workers})
    spec = spec.model_copy(update={"run": spec.run.model_copy(update=changes)})
    return carry_out(spec, folder, resumed=True)[0]


def write_report(folder: Path) -> Path:
    """The page of a card, written again; what is missing of the card is done."""
    resume(folder)
    return folder / PAGE


def _table(spec: CardSpec) -> ground_truth.GroundTruth:
    path = spec.truth or HERE / f"truth-{spec.level}.parquet"
    if not path.is_file():
        raise ValueError(f"truth: no file {path}; give --truth FILE, or make it: benchmarks/ground_truth.py")
    return ground_truth.load(path)


def _data(spec: CardSpec) -> Data:
    """Curricula, the untrained generator's, and more by the names of their rows.

    Raises:
        ValueError: one is not there, or a name is no name for a row.
    """
    curricula = [evaluators.curriculum(c) for c in spec.curriculum]
    untrained = evaluators.curriculum(spec.untrained) if spec.untrained else None
    also = {name: evaluators.curriculum(where) for name, where in _named(spec.also).items()}
    rows = {row.name for row in rankings.rankings(curricula, untrained, {}, (1.0, 1.0), spec.networks)}
    if taken := (rows | rankings.OTHERS) & set(also):
        raise ValueError(f"also: {', '.join(sorted(taken))}: a row of every card; give yours a name of its own")
    return curricula, untrained, also


def _trained(data: Data) -> dict[str, Distilled]:
    named = {f"gtn seed {n}" if n else "gtn": found for n, found in enumerate(data[0])}
    return {**named, **data[2]}


def held_out(found: Distilled, keys: set[str], space: str) -> bool | None:
    """Whether a curriculum's training left the judged architectures out; None where its manifest does not say."""
    learner = found.manifest.get("spec", {}).get("learner")
    if learner is None:
        return None
    if base(learner.get("draw", "none")) == space:
        return keys <= set(learner.get("exclude", ()))
    try:
        return parse(learner["name"]).key not in keys
    except (KeyError, ValueError):  # a network of no space
        return True


def _named(given: Sequence[str]) -> dict[str, str]:
    """NAME=RUN, by name.

    Raises:
        ValueError: one is not of that form, or a name is there twice.
    """
    found: dict[str, str] = {}
    for pair in given:
        name, equals, where = pair.partition("=")
        if not (name and equals and where):
            raise ValueError(f"also: {pair!r} is not NAME=RUN, as in one-network=runs/gtn-mnist-14-2")
        if name in found:
            raise ValueError(f"also: {name!r} is given twice; rows need names of their own")
        found[name] = where
    return found


def scored(
    scorer: Scorer, spec: CardSpec, archs: Sequence[Arch], data: Data, tell: Callable[[str], None]
) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, Any]]:
    """By ranker the scores [N] and the CPU seconds that they took together; and steps, batch and rates of real data."""
    keys, at = frozenset(arch.key for arch in archs), levels.level(spec.level).space
    steps, batch = rankings.size(data[0])
    short, long = (rankings.tuned_rate(scorer, at, keys, n * steps, batch) for n in (1, rankings.LONGER))
    tell(f"real data's rates by {rankings.SPARE} spare architectures: {short:g}, and {long:g} for more steps")
    scores, seconds = dict[str, np.ndarray](), dict[str, float]()

    def add(ranking: Ranking) -> None:
        found = scorer.scores(ranking, archs)
        scores[ranking.name], seconds[ranking.name] = found.values, float(found.cpu.sum())
        tell(f"{ranking.name}: {found.cpu.sum():.1f} CPU s")

    for ranking in rankings.rankings(*data, (short, long), spec.networks):
        add(ranking)
    facts: dict[str, Any] = {"lr_real": short, "lr_real_longer": long, "steps": steps, "batch": batch}
    if spec.equal_seconds and "gtn" in scores:
        budget = seconds["gtn"] + (spec.meta_seconds or 0.0)
        many = rankings.affordable(budget, seconds, steps, len(archs))
        rate = rankings.tuned_rate(scorer, at, keys, many, batch)
        facts |= {"steps_at_equal_seconds": many, "lr_at_equal_seconds": rate}
        add(rankings.real(rankings.EQUAL, many, batch, rate))
    scores[rankings.HALVED], seconds[rankings.HALVED] = rankings.halved(scorer, archs, batch, long)
    tell(f"{rankings.HALVED}: {seconds[rankings.HALVED]:.1f} CPU s")
    return scores, seconds, facts
