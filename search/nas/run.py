"""`raystill search nas`: from a space and data to a trained network.

A searcher asks for a generation, the evaluators score it, the ledger takes it, the searcher is told in index order; the
best are trained on real data (`retraining.py`). What is in the ledger or the commit log, and a retrained
candidate that is done, is not computed again.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from raystill.actors.drive import pipeline
from raystill.actors.drive.session import Session, open_session
from raystill.actors.signals import Stopped
from raystill.platform import runs
from raystill.platform.architectures import Arch, parse, space
from raystill.platform.artifacts import Distilled
from raystill.platform.files import arrays
from raystill.platform.files.storage import write_whole
from raystill.search import tracking
from raystill.search.nas import curriculum, page, retraining
from raystill.search.nas.ledger import Ledger, asked
from raystill.search.nas.retraining import WEIGHTS
from raystill.search.nas.searchers import SEARCHERS
from raystill.search.nas.spec import NasSpec
from raystill.search.ranking import evaluators
from raystill.search.ranking.levels import Protocol
from raystill.search.ranking.rankers import CHEAP, RankerOptions
from raystill.search.ranking.scoring import Ranking, Scorer

LEDGER, RESULT = "ledger.parquet", "result.json"


def nas(spec: NasSpec) -> dict[str, Any]:
    """Search, from a spec to its result; the run folder holds everything beside.

    Returns:
        What `result.json` has: the pick with its accuracies, the retrained candidates, the costs.

    Raises:
        ValueError: the spec, its data or its curriculum are wrong.
    """
    spec = curriculum.settled(spec)
    if spec.retrain > spec.candidates:
        raise ValueError(f"retrain: {spec.retrain} of {spec.candidates} candidates; ask for fewer")
    space(spec.space)
    named = curriculum.checked(spec)
    plan = evaluators.planned(spec.data, spec.run, spec.tracking, named, str(spec.curriculum))
    space(spec.space).check(plan.data.shape)
    run = plan.spec.run.model_copy(update={"workers": spec.run.workers})
    kept = spec.model_copy(update={"run": run, "tracking": plan.spec.tracking})
    if named is not None:
        kept = kept.model_copy(update={"curriculum": str(Path(str(spec.curriculum)).absolute())})
    return carry_out(kept, runs.create(kept, "search nas", "nas"))


def write_report(folder: Path) -> Path:
    """The page of a search, written again; what is missing of the search is done."""
    resume(folder)
    return folder / "report.html"


def resume(folder: Path, workers: int | str | None = None) -> dict[str, Any]:
    """Go on with a search that was stopped or killed; the ledger and the result are those of an undisturbed one.

    Raises:
        ValueError: not a search.
    """
    spec = runs.load_as(NasSpec, folder)
    changes: dict[str, Any] = {"out": folder.absolute().parent}
    if workers is not None:
        changes["workers"] = workers
    return carry_out(spec.model_copy(update={"run": spec.run.model_copy(update=changes)}), folder, resumed=True)


def carry_out(spec: NasSpec, folder: Path, resumed: bool = False) -> dict[str, Any]:
    """Do what is still missing of a search.

    Raises:
        pipeline.Interrupted: stopped by Ctrl-C; `resume` goes on.
    """
    print(f"search {folder}", flush=True)
    try:
        result, report = _worked(spec, folder, resumed)
    except KeyboardInterrupt as stop:
        signum = stop.signum if isinstance(stop, Stopped) else 2
        raise pipeline.Interrupted(signum, f"stopped; go on with: raystill resume {folder}") from None
    pick = result["pick"]
    print(f"pick {pick['architecture']}: validation {pick['validation']:.2f} %, test {pick['test']:.2f} %\n"
          f"  result  {folder / RESULT}\n  report  {report}")  # fmt: skip
    return result


def _worked(spec: NasSpec, folder: Path, resumed: bool) -> tuple[dict[str, Any], Path]:
    """The result and the page; of a search that has a result, only the page and what MLflow lacks."""
    began = time.monotonic()
    found, result = curriculum.curriculum(spec, folder), _result(folder)
    run = spec.run if result is None else spec.run.model_copy(update={"workers": 0})
    plan = evaluators.planned(spec.data, run, spec.tracking, found, str(spec.curriculum), resumed)
    with open_session(plan, folder) as session:
        told = tracking.Children(session, spec)
        try:
            ledger, costs = _search(spec, session, found, told)
            if result is None:
                rows = ledger.best(spec.retrain)
                result = retraining.finish(spec, session, rows, told.parent.run_id) | {
                    "space": spec.space, "searcher": spec.searcher, "seed": spec.run.seed, "resumed": resumed,
                    "candidates": len(ledger.rows), "ranker": " + ".join(asked(rows)), "costs": costs,
                    "selection": "validation accuracy of one network each; test is looked at for the table",
                    "wall_seconds": time.monotonic() - began,
                }  # fmt: skip
                text = json.dumps(result, indent=1)
                write_whole(folder / RESULT, text.encode())
            report = page.write(folder, result, ledger.rows)
        except BaseException as error:
            told.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        told.parent.artifact(report)
        told.parent.artifact(ledger.path)
        told.parent.artifact(folder / RESULT)
        told.log(0, {"pick_validation": result["pick"]["validation"], "pick_test": result["pick"]["test"]})
        told.finish("FINISHED")
    return result, report


def _result(folder: Path) -> dict[str, Any] | None:
    """What a search that ended found; None where it has not ended."""
    try:
        found: dict[str, Any] = json.loads((folder / RESULT).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / RESULT} can not be read: {error}; remove it, and resume makes it again") from None
    return found


def _rankings(spec: NasSpec, found: Distilled | None) -> list[Ranking]:
    """What is asked about each architecture: the one that trains first, where there are several."""
    trains = "curriculum" if found is not None else "real"
    names = (trains, *CHEAP) if spec.ranker == "combined" else (spec.ranker,)
    options = RankerOptions(spec.networks, spec.images, protocol=Protocol(spec.steps, spec.batch, spec.lr))
    return [Ranking(name, name, options, found if name == "curriculum" else None) for name in names]


def _search(
    spec: NasSpec, session: Session, found: Distilled | None, told: tracking.Children
) -> tuple[Ledger, dict[str, float]]:
    """Ask, score, keep, tell, until all candidates are scored; what the ledger has is replayed into the searcher."""
    at, rankings = space(spec.space), _rankings(spec, found)
    searcher, scorer = SEARCHERS[spec.searcher](at, spec.run.seed), Scorer(session, spec.run.seed)
    ledger = Ledger(session.folder / LEDGER)
    wall = 0.0
    for generation, start in enumerate(range(0, spec.candidates, spec.generation)):
        archs = searcher.ask(min(spec.generation, spec.candidates - start))
        if rows := ledger.generation(generation):
            if [row["architecture"] for row in rows] != [arch.text for arch in archs]:
                raise ValueError(
                    f"{ledger.path}: generation {generation} holds other architectures than {spec.searcher} asks for; "
                    "was it made by another version, or another seed?"
                )
        else:
            said = {}
            for ranking in rankings:
                scores = scorer.scores(ranking, archs, step=generation)
                said[ranking.name] = scores.values
                wall += scores.wall
            rows = ledger.add(generation, archs, said)
            text, score = (ledger.best(1)[0][key] for key in ("architecture", "score"))
            print(f"  {len(ledger.rows)} of {spec.candidates}: best {text} {score:.4g}", flush=True)
        searcher.tell(archs, [row["score"] for row in rows])
        told.generation(generation, rows, max(row["score"] for row in ledger.rows[: start + len(rows)]))
    return ledger, {**scorer.spent(), "score_wall_seconds": wall}


def replay(folder: Path) -> int:
    """Compute every score and retrained candidate of a finished search again, in this process; 0 where none differs.

    Raises:
        ValueError: not a search, or it is not finished.
    """
    spec = runs.load_as(NasSpec, folder)
    if not (folder / RESULT).is_file():
        raise ValueError(f"{folder}: is not finished; `raystill resume {folder}` ends it")
    found, ledger = curriculum.curriculum(spec, folder), Ledger(folder / LEDGER)
    run = spec.run.model_copy(update={"workers": 0, "faults": (), "storage": None})
    plan = evaluators.planned(
        spec.data, run, spec.tracking.model_copy(update={"enabled": False}), found, str(spec.curriculum), resumed=True
    )
    kept = json.loads((folder / RESULT).read_text())["retrained"]
    with tempfile.TemporaryDirectory() as other, open_session(plan, Path(other)) as session:
        archs = [parse(row["architecture"]) for row in ledger.rows]
        scorer = Scorer(session, spec.run.seed)
        said = {ranking.name: scorer.scores(ranking, archs).values.tolist() for ranking in _rankings(spec, found)}
        ended = [row for row in kept if row["test"] is not None]  # ASHA stopped the others at no fixed place
        again, _ = retraining.each(spec, session, ended)
    said["score"] = ledger.due()
    wrong = [
        row["architecture"] for n, row in enumerate(ledger.rows) if any(row[name] != said[name][n] for name in said)
    ]
    late = [a["architecture"] for a, b in zip(ended, again) if any(a[k] != b[k] for k in ("validation", "test"))]
    for kind, all_of, other_ones in (("scores", ledger.rows, wrong), ("retrained candidates", ended, late)):
        print(f"{len(all_of)} {kind} computed again: " + (
            f"{len(other_ones)} differ, the first of {other_ones[0]}" if other_ones else "the same"
        ))  # fmt: skip
    return 1 if wrong or late else 0


def best_network(folder: Path) -> tuple[Arch, np.ndarray]:
    """A finished search's pick and its trained parameters theta[P], for `learners.wrap(arch.build(...)).load`."""
    result = json.loads((folder / RESULT).read_text())
    return parse(result["pick"]["architecture"]), arrays.read(folder / WEIGHTS)[0]["theta"]
