"""`raystill search nas`: from a space and data to a trained network.

A searcher asks for a generation, the evaluators score it, the ledger takes it, the searcher is told in index order; the
best are trained on real data, as work items too (a Tune trial costs 0.2 to 1 s before it begins, and they are few and
short), or where they are many or long by Ray Tune and ASHA (`finals`). What is in the ledger or the commit log is not
computed again.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import yaml
from pydantic import ValidationError

from raystill.actors import pipeline
from raystill.actors.crew import Result
from raystill.actors.messages import WorkItem
from raystill.actors.session import Session, session
from raystill.platform import options, registry, runs
from raystill.platform.artifacts import Distilled
from raystill.platform.recipes import RECIPES, of, recipe
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec
from raystill.platform.storage import write_whole
from raystill.search import card, nas_page, place, tracking
from raystill.search.ledger import Ledger, asked
from raystill.search.scoring import Ranking, Scorer
from raystill.search.searchers import SEARCHERS
from raystill.search.space import Arch, parse, space
from raystill.search.spec import NasSpec
from raystill.search.truth import Protocol

SPEC, LEDGER, RESULT, WEIGHTS = "search.yaml", "ledger.parquet", "result.json", "network.safetensors"


def nas(spec: NasSpec) -> dict[str, Any]:
    """Search, from a spec to its result; the run folder holds everything beside.

    Returns:
        What `result.json` has: the pick with its accuracies, the finalists, the costs.

    Raises:
        ValueError: the spec, its data or its curriculum are wrong.
    """
    spec = settled(spec)
    _check(spec)
    named = None if _recipe(spec) else _curriculum(spec, Path())
    made = place.planned(spec.data, spec.run, spec.tracking, named, str(spec.curriculum))
    space(spec.space).check(made.data.shape)
    folder = runs.create(made.spec, "nas")
    run = made.spec.run.model_copy(update={"workers": spec.run.workers})
    kept = spec.model_copy(update={"run": run, "tracking": made.spec.tracking})
    if named is not None:
        kept = kept.model_copy(update={"curriculum": str(Path(str(spec.curriculum)).absolute())})
    (folder / SPEC).write_text(yaml.safe_dump(kept.model_dump(mode="json"), sort_keys=False))
    (folder / runs.MAKER).write_text("search nas\n")
    return carry_out(kept, folder)


def write_report(folder: Path) -> Path:
    """The page of a search, written again; what is missing of the search is done."""
    resume(folder)
    return folder / "report.html"


def resume(folder: Path, workers: int | str | None = None) -> dict[str, Any]:
    """Go on with a search that was stopped or killed; the ledger and the result are those of an undisturbed one.

    Raises:
        ValueError: not a search.
    """
    spec = _saved(folder)
    changes: dict[str, Any] = {"out": folder.absolute().parent}
    if workers is not None:
        changes["workers"] = workers
    return carry_out(spec.model_copy(update={"run": spec.run.model_copy(update=changes)}), folder, resumed=True)


def _saved(folder: Path) -> NasSpec:
    try:
        return NasSpec.model_validate(yaml.safe_load((folder / SPEC).read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ValueError(f"{folder / SPEC} can not be read: {' '.join(str(error).split())[:200]}") from None


def settled(spec: NasSpec) -> NasSpec:
    """The spec with a curriculum of `auto` replaced by what it means, and the images' size by the curriculum's."""
    if spec.curriculum != "auto":
        return spec
    if spec.ranker in ("combined", "curriculum"):
        for name in of("distill"):
            made = DistillSpec.model_validate(recipe(name))
            teaches = made.learner.draw.partition("@")[0] == spec.space.partition("@")[0]
            if teaches and made.data.source == spec.data.source and spec.data.size in (None, made.data.size):
                data = spec.data.model_copy(update={"size": made.data.size})
                print(f"scored by the curriculum of recipe {name}, made first; --curriculum none scores by real data")
                return spec.model_copy(update={"curriculum": f"recipe:{name}", "data": data})
    return spec.model_copy(update={"curriculum": None})


def _check(spec: NasSpec) -> None:
    if spec.finalists > spec.candidates:
        raise ValueError(f"finalists: {spec.finalists} of {spec.candidates} candidates; ask for fewer")
    if spec.ranker == "curriculum" and spec.curriculum is None:
        raise ValueError("ranker: curriculum needs one; give --curriculum RUN, or --curriculum recipe:NAME")
    name = _recipe(spec)
    if name is not None and name not in RECIPES:
        raise ValueError(f"curriculum: unknown recipe {name!r}; {registry.nearest(name, RECIPES)}")
    space(spec.space)


def _recipe(spec: NasSpec) -> str | None:
    """The recipe that is distilled first, where `curriculum` names one."""
    start, colon, name = (spec.curriculum or "").partition(":")
    return name if colon and start == "recipe" else None


def _curriculum(spec: NasSpec, folder: Path) -> Distilled | None:
    """The curriculum: a run's or an artefact's, or one that is distilled now, in the search's folder."""
    name = _recipe(spec)
    if name is None:
        return None if spec.curriculum is None else place.curriculum(spec.curriculum)
    home = folder / "curriculum"
    if not (home / "artefact").is_dir():
        run = {"name": "curriculum", "out": str(folder), "seed": spec.run.seed, "workers": spec.run.workers}
        own = {"recipe": name, "run": run, "data": spec.data.model_dump(mode="json", exclude_defaults=True)}
        found = options.merge(recipe(name), {**own, "tracking": {"enabled": False}, "assess": {"baselines": False}})
        if (home / "spec.yaml").is_file():
            pipeline.resume(home)
        else:
            pipeline.distill(DistillSpec.model_validate(found))
    return place.curriculum(str(home))


def carry_out(spec: NasSpec, folder: Path, resumed: bool = False) -> dict[str, Any]:
    """Do what is still missing of a search."""
    print(f"search {folder}", flush=True)
    began = time.monotonic()
    found = _curriculum(spec, folder)
    made = place.planned(spec.data, spec.run, spec.tracking, found, str(spec.curriculum), resumed)
    with session(made, folder) as held:
        told = tracking.Children(held, spec)
        try:
            ledger, costs = _search(spec, held, found, told)
            result = _finish(spec, held, ledger, told.parent.run_id)
            result |= {"costs": costs, "wall_seconds": time.monotonic() - began}
            write_whole(folder / RESULT, lambda stream: stream.write(json.dumps(result, indent=1).encode()))
            report = nas_page.write(folder, result, ledger.rows)
        except BaseException as error:
            told.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        told.parent.artifact(report)
        told.parent.artifact(ledger.path)
        told.parent.artifact(folder / RESULT)
        told.log(0, {"pick_validation": result["pick"]["validation"], "pick_test": result["pick"]["test"]})
        told.finish("FINISHED")
    pick = result["pick"]
    print(f"pick {pick['architecture']}: validation {pick['validation']:.2f} %, test {pick['test']:.2f} %\n"
          f"  result  {folder / RESULT}\n  report  {report}")  # fmt: skip
    return result


def _rankings(spec: NasSpec, found: Distilled | None) -> list[Ranking]:
    """What is asked about each architecture: the one that trains first, where there are several."""
    trains = "curriculum" if found is not None else "real"
    names = (trains, *card.CHEAP) if spec.ranker == "combined" else (spec.ranker,)
    settings: dict[str, Any] = {"networks": spec.networks, "limit": spec.images}
    real = {"steps": spec.steps, "batch": spec.batch, "lr": spec.lr, "momentum": 0.9}
    return [
        Ranking(name, name, settings | (real if name == "real" else {}), found if name == "curriculum" else None)
        for name in names
    ]


def _search(
    spec: NasSpec, held: Session, found: Distilled | None, told: tracking.Children
) -> tuple[Ledger, dict[str, float]]:
    """Ask, score, keep, tell, until all candidates are scored; what the ledger has is replayed into the searcher."""
    at, rankings = space(spec.space), _rankings(spec, found)
    searcher, scorer = SEARCHERS[spec.searcher](at, spec.run.seed), Scorer(held, spec.run.seed)
    ledger = Ledger(held.folder / LEDGER)
    costs = {"score_cpu_seconds": 0.0, "score_wall_seconds": 0.0, "steps_seconds": 0.0, "work_seconds": 0.0}
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
                for key, value in zip(costs, (scores.cpu.sum(), scores.wall, scores.steps.sum(),
                                              (scores.steps + scores.judging).sum())):  # fmt: skip
                    costs[key] += float(value)
            rows = ledger.add(generation, archs, said)
            text, score = (ledger.best(1)[0][key] for key in ("architecture", "score"))
            print(f"  {len(ledger.rows)} of {spec.candidates}: best {text} {score:.4g}", flush=True)
        searcher.tell(archs, [row["score"] for row in rows])
        told.generation(generation, rows, max(row["score"] for row in ledger.rows[: start + len(rows)]))
    return ledger, costs


def _finish(spec: NasSpec, held: Session, ledger: Ledger, parent: str | None) -> dict[str, Any]:
    """The finalists trained on real data; the pick has the best validation accuracy, the earlier one among equals."""
    rows = ledger.best(spec.finalists)
    how = "stopped where they lag behind" if spec.finals == "asha" else "each to its end"
    print(f"train {len(rows)} finalists on real data, {Protocol(spec.final_steps)}, {how}", flush=True)
    figures, weights = FINALS[spec.finals](spec, held, rows, parent)
    shape, classes = held.made.data.shape, len(held.made.data.classes)
    finalists = []
    for row, found in zip(rows, figures):
        arch = parse(row["architecture"])
        sizes = {"parameters": arch.parameters(shape, classes), "flops": arch.flops(shape, classes)}
        finalists.append({"architecture": arch.text, "score": row["score"], "index": row["index"], **found, **sizes})
    whole = [n for n, found in enumerate(finalists) if found["test"] is not None]
    best = finalists[max(whole, key=lambda n: (finalists[n]["validation"], -n))]
    facts = {"architecture": str(best["architecture"]), "data": held.made.data.name}
    theta = np.ascontiguousarray(weights[best["architecture"]])
    write_whole(held.folder / WEIGHTS, lambda stream: stream.write(safetensors.numpy.save({"theta": theta}, facts)))
    return {"pick": best, "finalists": finalists, "protocol": str(Protocol(spec.final_steps)), "finals": spec.finals,
            "space": spec.space, "searcher": spec.searcher, "seed": spec.run.seed, "candidates": len(ledger.rows),
            "ranker": " + ".join(asked(rows)),
            "selection": "validation accuracy of one network each; test is looked at for the table"}  # fmt: skip


Trained = tuple[list[dict[str, Any]], dict[str, np.ndarray]]
"""Figures of some architectures {steps, validation, test, cpu_seconds}, and theta[P] by text of those that ended."""


def _each(spec: NasSpec, held: Session, rows: list[dict[str, Any]], parent: str | None = None) -> Trained:
    """Rows of the ledger trained to their end, as work items."""
    protocol = Protocol(spec.final_steps)
    none = held.crew.executor.put({"none": np.zeros(1, np.float32)})
    items = []
    for n, row in enumerate(rows):
        settings = {"architecture": row["architecture"], "steps": protocol.steps, "batch": protocol.batch,
                    "lr": protocol.lr, "momentum": protocol.momentum}  # fmt: skip
        address = Address(spec.run.seed, member=n, stream="search/final")
        items.append(
            held.crew.add(WorkItem("train_real", address, 0, f"final/{n}", tuple(sorted(settings.items()))), none)
        )
    results: list[Result] = held.crew.wait(items)
    figures = [
        {"steps": protocol.steps, **{k: 100 * r.outcome.numbers[k] for k in ("validation", "test")},
         "cpu_seconds": r.outcome.cpu_seconds}
        for r in results
    ]  # fmt: skip
    fetch = held.crew.executor.server.fetch
    return figures, {row["architecture"]: fetch(r.arrays)["theta"] for row, r in zip(rows, results)}


def _stopped(spec: NasSpec, held: Session, rows: list[dict[str, Any]], parent: str | None) -> Trained:
    """Rows of the ledger trained by Ray Tune, which stops laggards."""
    from raystill.search import finals

    held.release()
    archs = [parse(row["architecture"]) for row in rows]
    return finals.tuned(held.made.spec, archs, Protocol(spec.final_steps), held.folder, parent)


FINALS: dict[str, Callable[[NasSpec, Session, list[dict[str, Any]], str | None], Trained]] = {
    "all": _each, "asha": _stopped,
}  # fmt: skip
"""How finalists are trained, by `finals`."""


def replay(folder: Path) -> int:
    """Compute every score and every finalist of a finished search again, in this process; 0 where none differs.

    Raises:
        ValueError: not a search, or it is not finished.
    """
    spec = _saved(folder)
    if not (folder / RESULT).is_file():
        raise ValueError(f"{folder}: is not finished; `raystill resume {folder}` ends it")
    found, ledger = _curriculum(spec, folder), Ledger(folder / LEDGER)
    run = spec.run.model_copy(update={"workers": 0, "faults": (), "storage": None})
    made = place.planned(
        spec.data, run, spec.tracking.model_copy(update={"enabled": False}), found, str(spec.curriculum), resumed=True
    )
    finalists = json.loads((folder / RESULT).read_text())["finalists"]
    with tempfile.TemporaryDirectory() as other, session(made, Path(other)) as held:
        archs = [parse(row["architecture"]) for row in ledger.rows]
        scorer = Scorer(held, spec.run.seed)
        said = {ranking.name: scorer.scores(ranking, archs).values.tolist() for ranking in _rankings(spec, found)}
        ended = [row for row in finalists if row["test"] is not None]  # ASHA stopped the others at no fixed place
        again, _ = _each(spec, held, ended)
    said["score"] = ledger.due()
    wrong = [
        row["architecture"] for n, row in enumerate(ledger.rows) if any(row[name] != said[name][n] for name in said)
    ]
    late = [a["architecture"] for a, b in zip(ended, again) if any(a[k] != b[k] for k in ("validation", "test"))]
    for kind, all_of, other_ones in (("scores", ledger.rows, wrong), ("finalists", ended, late)):
        print(f"{len(all_of)} {kind} computed again: " + (
            f"{len(other_ones)} differ, the first of {other_ones[0]}" if other_ones else "the same"
        ))  # fmt: skip
    return 1 if wrong or late else 0


def best_network(folder: Path) -> tuple[Arch, np.ndarray]:
    """A finished search's pick and its trained parameters theta[P], for `learners.wrap(arch.build(...)).load`."""
    result = json.loads((folder / RESULT).read_text())
    return parse(result["pick"]["architecture"]), safetensors.numpy.load_file(folder / WEIGHTS)["theta"]
