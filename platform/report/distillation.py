"""`report.html` of a distillation: one self-contained page."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from raystill.platform.artifacts import Distilled
from raystill.platform.artifacts.preview import preview
from raystill.platform.files.storage import write_whole
from raystill.platform.registry import Plugins
from raystill.platform.report.assessment import assessment
from raystill.platform.report.curves import history
from raystill.platform.report.images import images
from raystill.platform.report.page import page, write_page
from raystill.platform.report.provenance import provenance
from raystill.platform.report.run_folder import BEFORE, Run, read_run
from raystill.platform.report.verdict import headline, percent
from raystill.platform.report.words import duration, plural


def write_report(run: Path, plugins: Plugins | None = None) -> Path:
    """Write `report.html` into a run folder, in place of an older one.

    Args:
        run: the folder, with `spec.yaml` and `artefact/`; `history.parquet` and `assessment.json` where they are.
        plugins: the caller's own parts, of which `modalities` are used.

    Raises:
        ValueError: a file is missing or malformed, or the folder can not be written.
    """
    return write_page(run, render(read_run(run, plugins)))


def save_before(run: Path, start: Distilled) -> None:
    """Write a picture of the images before the first step into a run folder, for its report."""
    stream = io.BytesIO()
    preview(start).save(stream, "PNG", optimize=True)
    write_whole(run / BEFORE, stream.getvalue())


def render(run: Run) -> str:
    """The page; the same run gives the same bytes."""
    modality = run.distilled.modality
    count = run.distilled.images.shape[0] * run.distilled.images.shape[1]
    return page(
        run.path.resolve().name,
        f"{modality.count(count, 'distilled')} of {run.get('data', 'source') or 'a data set'}",
        headline(run),
        [images(run.distilled, run.before), history(run), assessment(run.assessment, modality), provenance(run)],
        _numbers(run),
    )


def _numbers(run: Run) -> list[tuple[str, str]]:
    """The numbers at the top of the page: (value, description)."""
    s, m, c, h, w = run.distilled.images.shape
    numbers = []
    best = run.assessment.distilled if run.assessment else None
    if run.assessment and best:
        over = f", ± over {best.spread_over}" if best.n > 1 and best.spread_over else ""
        numbers.append((percent(best), f"{run.assessment.split} accuracy{over}"))
    if best and best.distillation_seeds:
        seeds = best.distillation_seeds
        numbers.append((f"{seeds.mean:.1f} ± {seeds.std:.1f} %", f"± over {plural(seeds.n, 'distillation seed')}"))
    modality = run.distilled.modality
    numbers.append((f"{s * m:,}", f"{modality.plural} of {modality.size((c, h, w))}, {plural(s, 'step')} of {m}"))
    numbers.append((f"{len(run.distilled.order):,}", "inner steps to train a network"))
    if run.history is not None and len(run.history["step"]):
        cpu, wall = (float(np.nansum(run.history[name])) for name in ("cpu_seconds", "seconds"))
        steps = plural(len(run.history["step"]), "outer step")
        numbers.append((duration(cpu), f"of evaluators' CPU, in {duration(wall)} and {steps}"))
    return numbers
