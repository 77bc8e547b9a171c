"""A rank card from a ground truth and curricula, in a run folder: `card.json` and a page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from raystill.actors.drive.session import open_session
from raystill.platform import runs
from raystill.platform.architectures import base
from raystill.platform.files.storage import write_whole
from raystill.platform.spec import TrackingSpec
from raystill.search.card import comparison, page, rankings
from raystill.search.card.inputs import held_out, load_curricula, load_truth
from raystill.search.card.scoring import score
from raystill.search.card.spec import CardSpec
from raystill.search.ranking import evaluators, levels
from raystill.search.ranking.scoring import Scorer, check_fit

CARD = "card.json"
Scored = dict[str, np.ndarray] | None


def rank_card(spec: CardSpec, tell: Callable[[str], None] = print) -> tuple[dict[str, Any], Scored, Path]:
    """Make a card in a new run folder.

    Args:
        tell: takes lines of progress.

    Returns:
        The card, the scores [N] by ranker (None where the card does not speak), and the folder.

    Raises:
        ValueError: unknown level, no ground truth, other data than its own, or a curriculum that does not fit.
    """
    level = levels.level(spec.level)
    truth = load_truth(spec)
    if spec.equal_seconds and spec.meta_seconds is None:
        raise ValueError("equal_seconds: needs meta_seconds, the CPU seconds of the curriculum's training")
    curricula = load_curricula(spec)
    data = [*curricula.compared, *curricula.also.values()]
    names = [*spec.curriculum, *spec.also]
    if curricula.untrained is not None:
        data, names = [*data, curricula.untrained], [*names, str(spec.untrained)]
    plan = evaluators.planned(
        level.data, spec.run, TrackingSpec(enabled=False), data[0] if data else None, names[0] if names else ""
    )
    for other, name in zip(data[1:], names[1:]):
        check_fit(other, plan.data, name)
    if plan.data.fingerprint != truth.fingerprint:
        raise ValueError(
            f"search.truth: was made from data {truth.fingerprint[:12]}, these are {plan.data.fingerprint[:12]}"
        )
    spec = spec.model_copy(update={"run": plan.spec.run.model_copy(update={"workers": spec.run.workers})})
    folder = runs.create(spec, "search card", f"card-{spec.level}")
    return *carry_out(spec, folder, tell), folder


def carry_out(
    spec: CardSpec, folder: Path, tell: Callable[[str], None] = print, resumed: bool = False
) -> tuple[dict[str, Any], Scored]:
    """Write `card.json` and the page; what the folder's commit log has is not computed again.

    Args:
        folder: the run folder, with the commit log of an earlier session where there was one.
        tell: takes lines of progress.
        resumed: an earlier session began the card.

    Returns:
        The card, and the scores [N] by ranker; None in place of the scores where the card does not speak.

    Raises:
        Interrupted: stopped by Ctrl-C; `resume` goes on.
    """
    truth, level, scores = load_truth(spec), levels.level(spec.level), None
    card = comparison.compare(truth, {}, {}, resamples=100)
    if card["speaks"]:
        curricula, began = load_curricula(spec), time.monotonic()
        plan = evaluators.planned(level.data, spec.run, TrackingSpec(enabled=False), curricula.first, "", resumed)
        with open_session(plan, folder) as session, runs.resumable(folder):
            scores, seconds, facts = score(Scorer(session, spec.seed), spec, truth.archs, curricula, tell)
        rankings.combine(scores, seconds)
        card = comparison.compare(truth, scores, seconds, spec.meta_seconds, spec.resamples)
        keys = {arch.key for arch in truth.archs}
        card |= {
            "level": spec.level, "seed": spec.seed, "meta_seconds": spec.meta_seconds, **facts,
            "held_out": {name: held_out(d, keys, base(level.space)) for name, d in curricula.trained().items()},
            "wall_seconds": time.monotonic() - began,
        }  # fmt: skip
        for name in (name for name, apart in card["held_out"].items() if apart is False):
            tell(f"warning: {name}: was trained with architectures of this card, or may have been; learner.exclude "
                 "leaves them out")  # fmt: skip
        if "gtn" in seconds and spec.meta_seconds:
            each, full = seconds["gtn"] / len(truth.archs), float(np.nanmean(truth.seconds))
            card["break_even_against_full_training"] = comparison.break_even(spec.meta_seconds, each, full)
    write_whole(folder / CARD, json.dumps(card, indent=1).encode())
    page.write(folder, card, scores, truth)
    return card, scores


def resume(folder: Path, workers: int | str | None = None) -> dict[str, Any]:
    """Finish a card that was stopped or killed; returns it.

    Raises:
        ValueError: not a card.
    """
    spec = runs.load_as(CardSpec, folder)
    changes: dict[str, Any] = {"out": folder.absolute().parent} | ({} if workers is None else {"workers": workers})
    spec = spec.model_copy(update={"run": spec.run.model_copy(update=changes)})
    return carry_out(spec, folder, resumed=True)[0]
