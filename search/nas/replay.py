"""`raystill replay` of an architecture search: every score and network again, in one process."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from raystill.actors.drive.session import open_session
from raystill.platform import runs
from raystill.platform.architectures import parse
from raystill.search.nas import curriculum, retraining
from raystill.search.nas.generations import LEDGER, rankings
from raystill.search.nas.ledger import Ledger
from raystill.search.nas.run import RESULT
from raystill.search.nas.spec import NasSpec
from raystill.search.ranking import evaluators
from raystill.search.ranking.scoring import Scorer


def replay(folder: Path) -> int:
    """Compute every score and retrained candidate of a finished search again and print how many differ.

    Returns:
        0 where none differs, else 1.

    Raises:
        ValueError: not a search, or it is not finished.
    """
    spec = runs.load_as(NasSpec, folder)
    if not (folder / RESULT).is_file():
        raise ValueError(f"{folder}: is not finished; `raystill resume {folder}` ends it")
    distilled = curriculum.load_or_distil(spec, folder)
    asked = rankings(spec, distilled)
    ledger = Ledger(folder / LEDGER, [ranking.name for ranking in asked])
    run = spec.run.model_copy(update={"workers": 0, "faults": (), "storage": None})
    quiet = spec.tracking.model_copy(update={"enabled": False})
    plan = evaluators.planned(spec.data, run, quiet, distilled, str(spec.curriculum), resumed=True)
    retrained = json.loads((folder / RESULT).read_text())["retrained"]
    ended = [row for row in retrained if row["test"] is not None]  # ASHA may stop the others elsewhere
    with tempfile.TemporaryDirectory() as other, open_session(plan, Path(other)) as session:
        archs = [parse(row["architecture"]) for row in ledger.rows]
        scorer = Scorer(session, spec.run.seed)
        values = {ranking.name: scorer.scores(ranking, archs).values.tolist() for ranking in asked}
        again, _ = retraining.on_evaluators(spec, session, ended)
    values["score"] = ledger.expected_scores()
    scores = [
        row["architecture"] for n, row in enumerate(ledger.rows) if any(row[key] != values[key][n] for key in values)
    ]
    networks = [a["architecture"] for a, b in zip(ended, again) if any(a[k] != b[k] for k in ("validation", "test"))]
    for noun, count, different in (
        ("scores", len(ledger.rows), scores), ("retrained candidates", len(ended), networks),
    ):  # fmt: skip
        verdict = f"{len(different)} differ, the first of {different[0]}" if different else "the same"
        print(f"{count} {noun} computed again: {verdict}")
    return 1 if scores or networks else 0
