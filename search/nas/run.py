"""An architecture search, from a space and data to a trained network.

A searcher proposes a generation, the evaluators score it, the ledger takes it (`generations.py`); the best are trained
on real data (`retraining.py`). What is in the ledger or the commit log, and a retrained candidate that is done, is not
computed again.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from raystill.actors.drive.session import open_session
from raystill.platform import registry, runs
from raystill.platform.architectures import Arch, parse, space
from raystill.platform.files import arrays
from raystill.platform.files.storage import write_whole
from raystill.platform.tracking import carried_out, noted
from raystill.search.nas import curriculum, page, retraining
from raystill.search.nas.generations import GENERATION, rankings, score_candidates
from raystill.search.nas.retraining import WEIGHTS
from raystill.search.nas.spec import NasSpec
from raystill.search.ranking import evaluators
from raystill.search.ranking.rankers import RANKERS
from raystill.search.tracking import SEARCH, Children

RESULT = "result.json"


def search_architecture(spec: NasSpec) -> dict[str, Any]:
    """Search, from a spec to its result, in a new run folder.

    Returns:
        What `result.json` has: the pick with its accuracies, the retrained candidates, the costs.

    Raises:
        ValueError: the spec, its data or its curriculum are wrong.
        Interrupted: stopped by Ctrl-C; `resume` goes on.
    """
    if spec.ranker != "combined":
        registry.resolve("rankers", spec.ranker, RANKERS, field="ranker")
    spec = curriculum.resolve(spec)
    if spec.retrain > spec.candidates:
        raise ValueError(f"retrain: {spec.retrain} of {spec.candidates} candidates; ask for fewer")
    space(spec.space)
    distilled = curriculum.check(spec)
    plan = evaluators.planned(spec.data, spec.run, spec.tracking, distilled, str(spec.curriculum))
    space(spec.space).check(plan.data.shape)
    run = plan.spec.run.model_copy(update={"workers": spec.run.workers})
    spec = spec.model_copy(update={"run": run, "tracking": plan.spec.tracking})
    if distilled is not None:
        spec = spec.model_copy(update={"curriculum": str(Path(str(spec.curriculum)).absolute())})
    return carry_out(spec, runs.create(spec, "search nas", "nas"))


def resume(folder: Path, workers: int | str | None = None) -> dict[str, Any]:
    """Finish a search that was stopped or killed, with the ledger and the result of an undisturbed one.

    Raises:
        ValueError: not a search.
    """
    spec = runs.load_as(NasSpec, folder)
    changes: dict[str, Any] = {"out": folder.absolute().parent}
    if workers is not None:
        changes["workers"] = workers
    return carry_out(spec.model_copy(update={"run": spec.run.model_copy(update=changes)}), folder, resumed=True)


def carry_out(spec: NasSpec, folder: Path, resumed: bool = False) -> dict[str, Any]:
    """Do what a search's folder still lacks; where it has `result.json`, only the page and MLflow's run are completed.

    Args:
        folder: the run folder, with the ledger of an earlier session where there was one.
        resumed: an earlier session began the search; it then goes on even where its tracking store is away.

    Returns:
        What `result.json` holds.

    Raises:
        ValueError: the ledger or the result is torn, or of another search.
        Interrupted: stopped by Ctrl-C or SIGTERM; `raystill resume` goes on.
    """
    print(f"search {folder}", flush=True)
    began = time.monotonic()
    result = _result(folder)
    distilled = curriculum.load_or_distil(spec, folder)
    run = spec.run if result is None else spec.run.model_copy(update={"workers": 0})
    plan = evaluators.planned(spec.data, run, spec.tracking, distilled, str(spec.curriculum), resumed)
    with open_session(plan, folder) as session:
        tracker, _ = noted(
            spec.tracking, session.home, folder.name, spec.model_dump(mode="json"), {SEARCH: folder.name}
        )
        children = Children(spec.tracking, tracker.run_id, folder.name, GENERATION)
        with carried_out(folder, tracker):
            ledger, costs = score_candidates(spec, session, rankings(spec, distilled), tracker, children)
            if result is None:
                result = retraining.retrain(spec, session, ledger.best(spec.retrain), tracker.run_id) | {
                    "space": spec.space, "searcher": spec.searcher, "seed": spec.run.seed, "resumed": resumed,
                    "candidates": len(ledger.rows), "ranker": " + ".join(ledger.rankers), "costs": costs,
                    "selection": "validation accuracy of one network each; test is looked at for the table",
                    "wall_seconds": time.monotonic() - began,
                }  # fmt: skip
                text = json.dumps(result, indent=1)
                write_whole(folder / RESULT, text.encode())
            report = page.write(folder, result, ledger.rows, ledger.rankers)
            pick = result["pick"]
            tracker.log(0, {"pick_validation": pick["validation"], "pick_test": pick["test"]}, int(time.time() * 1000))
            for path in (report, ledger.path, folder / RESULT):
                tracker.artifact(path)
    print(f"pick {pick['architecture']}: validation {pick['validation']:.2f} %, test {pick['test']:.2f} %\n"
          f"  result  {folder / RESULT}\n  report  {report}")  # fmt: skip
    return result


def _result(folder: Path) -> dict[str, Any] | None:
    """The result of a search; None where it has not ended."""
    try:
        result: dict[str, Any] = json.loads((folder / RESULT).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / RESULT} can not be read: {error}; remove it, and resume makes it again") from None
    return result


def best_network(folder: Path) -> tuple[Arch, np.ndarray]:
    """A finished search's pick and its trained parameters theta[P], for `learners.wrap(arch.build(...)).load`."""
    result = json.loads((folder / RESULT).read_text())
    return parse(result["pick"]["architecture"]), arrays.read(folder / WEIGHTS)[0]["theta"]
