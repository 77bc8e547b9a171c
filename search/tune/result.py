"""The result of a hyperparameter search: a row for each trial, the best first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from raystill.platform.files.storage import write_whole
from raystill.search.tune.generations import population_row
from raystill.search.tune.space import METRIC

RESULT = "result.json"


def row(result: Any, home: Path) -> dict[str, Any]:
    """The row of a trial; a trial without a metric has failed, even where Tune gives no error.

    Args:
        result: Tune's.
        home: folder of the trials' runs.
    """
    metrics, frame = result.metrics or {}, result.metrics_dataframe
    facts = {"trial": Path(result.path).name, "values": result.config or {}, "validation": metrics.get(METRIC),
             "step": metrics.get("step"), "seconds": metrics.get("trial_seconds")}  # fmt: skip
    if "run" in metrics:  # of a population
        facts |= population_row(str(facts["trial"]), metrics, home)
        if frame is not None:  # a trial that was paused has been several processes
            facts["seconds"] = float(frame.groupby("pid")["trial_seconds"].max().sum())
    error = str(result.error).strip().splitlines() if result.error is not None else []
    if facts["validation"] is None:
        facts["failed"] = error[-1][:300] if error else "no metrics: it never started, or was stopped before its first"
    elif error:
        facts["failed"] = error[-1][:300]
    return facts


def write(rows: list[dict[str, Any]], settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Print the best trials and write `result.json`.

    Raises:
        RuntimeError: no trial reported anything.
    """
    good = sorted((row for row in rows if row["validation"] is not None), key=lambda row: -row["validation"])
    failed = [row for row in rows if "failed" in row]
    for row in failed:
        print(f"failed: {row['trial']}: {row['failed']}", flush=True)
    if not good:
        raise RuntimeError(f"no trial of {len(rows)} reported anything; {folder / 'trials'} has their logs")
    for row in good[:10]:
        values = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row["values"].items())
        print(f"  {row['validation']:6.2f} % validation, step {row['step']}: {values}")
    result = {"best": good[0], "trials": rows, "failed": failed, "settings": settings, "split": "validation",
              "seconds": sum(row["seconds"] or 0 for row in rows)}  # fmt: skip
    text = json.dumps(result, indent=1, default=str)
    write_whole(folder / RESULT, text.encode())
    print(f"  result  {folder / RESULT}")
    if "lineage" in good[0]:  # its last values alone do not make it again
        print(f"  data    {folder / 'trials' / good[0]['run'] / 'artefact'}")
    return result
