"""`raystill kd`, and its parts of `resume` and `report`."""

from __future__ import annotations

import json
import time
from pathlib import Path

from raystill.platform.command_line import options
from raystill.platform.report.students import write_report
from raystill.platform.students import run
from raystill.platform.students.spec import KdSpec

__all__ = ["kd", "resume", "write_report"]


def kd(argv: list[str]) -> int:
    """Train students."""
    text = "Train students: from teachers, mixtures, unlabelled images. Without --recipe or --config: `kd-hinton`."
    spec, _ = options.load(KdSpec, "kd", text, argv, default="kd-hinton")
    began = time.monotonic()
    folder = run.kd(spec)
    _close(folder, spec, time.monotonic() - began)
    return 0


def resume(folder: Path, workers: int | str | None = None) -> int:
    """Go on with a run of students; it has no evaluators to count."""
    from raystill.platform import runs

    began = time.monotonic()
    run.resume(folder)
    _close(folder, runs.load_as(KdSpec, folder), time.monotonic() - began)
    return 0


def _close(folder: Path, spec: KdSpec, seconds: float) -> None:
    results = json.loads((folder / run.RESULTS).read_text())
    for row in results["rows"]:
        print(
            f"{row['name']:24s} {row['test_mean']:6.2f} +- {row['test_std']:.2f} %  test, {len(results['seeds'])} seeds"
        )
    print(f"done in {seconds:.0f} s\n  result  {folder / 'networks'}\n  report  {folder / 'report.html'}")
    if spec.tracking.enabled:
        print("  runs    raystill ui")
