"""The loop of a search: the searcher proposes a generation, rankers score it, the ledger keeps it."""

from __future__ import annotations

import time

from raystill.actors.drive.session import Session
from raystill.platform.architectures import space
from raystill.platform.artifacts import Distilled
from raystill.platform.tracking import Tracker
from raystill.search.nas.ledger import Ledger
from raystill.search.nas.searchers import SEARCHERS
from raystill.search.nas.spec import NasSpec
from raystill.search.ranking.levels import Protocol
from raystill.search.ranking.rankers import CHEAP, RankerOptions
from raystill.search.ranking.scoring import Ranking, Scorer
from raystill.search.tracking import Children

LEDGER = "ledger.parquet"
GENERATION = "raystill.generation"
"""Tag of a generation's run in MLflow."""


def rankings(spec: NasSpec, curriculum: Distilled | None) -> list[Ranking]:
    """How each architecture is scored; of several rankers the one that trains networks is first."""
    trains = "curriculum" if curriculum is not None else "real"
    names = (trains, *CHEAP) if spec.ranker == "combined" else (spec.ranker,)
    options = RankerOptions(spec.networks, spec.images, protocol=Protocol(spec.steps, spec.batch, spec.lr))
    return [Ranking(name, name, options, curriculum if name == "curriculum" else None) for name in names]


def score_candidates(
    spec: NasSpec, session: Session, scored_by: list[Ranking], tracker: Tracker, children: Children
) -> tuple[Ledger, dict[str, float]]:
    """Score `spec.candidates` architectures, a generation at a time; generations in the ledger are not scored again.

    Args:
        spec: names the space, the searcher and the size of a generation.
        session: of the search's run folder, in which the ledger lies.
        scored_by: each architecture is scored by all of these.
        tracker: the search's MLflow run; the best scores of each generation are logged to it.
        children: writes a child of that run for each generation.

    Returns:
        The ledger, and seconds: `score_cpu_seconds`, `training_seconds` and `work_seconds` of all sessions of the
        search, and `score_wall_seconds` of this one.

    Raises:
        ValueError: the ledger is torn, or holds other rankers or other architectures than this search asks for.
    """
    searcher = SEARCHERS[spec.searcher](space(spec.space), spec.run.seed)
    scorer = Scorer(session, spec.run.seed)
    ledger = Ledger(session.folder / LEDGER, [ranking.name for ranking in scored_by])
    wall = 0.0
    for generation, start in enumerate(range(0, spec.candidates, spec.generation)):
        archs = searcher.ask(min(spec.generation, spec.candidates - start))
        if rows := ledger.generation(generation):
            if [row["architecture"] for row in rows] != [arch.text for arch in archs]:
                raise ValueError(
                    f"{ledger.path}: generation {generation} has other architectures than {spec.searcher} proposes; "
                    "was it made by another version, or another seed?"
                )
        else:
            values = {}
            for ranking in scored_by:
                scores = scorer.scores(ranking, archs, step=generation)
                values[ranking.name] = scores.values
                wall += scores.wall
            rows = ledger.add(generation, archs, values)
            best = ledger.best(1)[0]
            print(f"  {len(ledger.rows)} of {spec.candidates}: best {best['architecture']} {best['score']:.4g}",
                  flush=True)  # fmt: skip
        searcher.tell(archs, [row["score"] for row in rows])
        now = int(time.time() * 1000)
        best_score = max(row["score"] for row in ledger.rows[: start + len(rows)])
        tracker.log(generation, {"best_score": best_score, "generation_best": max(row["score"] for row in rows)}, now)
        tracker.flush()
        children.write(
            f"generation {generation}", {"generation": generation},
            ((row["index"], {name: row[name] for name in ("score", *ledger.rankers)}, now) for row in rows),
        )  # fmt: skip
    return ledger, {**scorer.spent(), "score_wall_seconds": wall}
