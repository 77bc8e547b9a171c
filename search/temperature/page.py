"""The page of a temperature search, and the table that the terminal shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from raystill.platform.report import page
from raystill.platform.report.words import plural
from raystill.platform.runs import dump
from raystill.search.temperature import response
from raystill.search.temperature.settings import StudentScore, chosen, summaries
from raystill.search.temperature.spec import TemperatureSpec

MOST = 12
"""Settings of a width in the table."""
COLUMNS = [("students", ""), ("test accuracy", "number"), ("seeds", "number")]
SETTINGS = [("setting", ""), ("validation accuracy", "number"), ("seeds", "number")]


def spread(row: dict[str, Any]) -> str:
    """`94.20 ± 0.31 %`; one student has no spread."""
    return f"{row['mean']:.2f} ± {row['std']:.2f} %" if row["n"] > 1 else f"{row['mean']:.2f} %"


def title(row: dict[str, Any]) -> str:
    """A row's name with its width and setting."""
    width = f"width {row['width']}, " if row["width"] else ""
    setting = f" (T {row['temperature']:.3g}, alpha {row['alpha']:.3g})" if "temperature" in row else ""
    return f"{width}{row['name']}{setting}"


def table(result: dict[str, Any]) -> list[str]:
    """Test accuracies, one line each."""
    lines = [f"{title(r):52s} {spread(r):>18s}  (test, {plural(r['n'], 'student')})" for r in result["test"]["rows"]]
    return [*lines, f"{'teacher':52s} {result['teacher']['test']:16.2f} %  (test)"]


def write(folder: Path, spec: TemperatureSpec, rows: Sequence[StudentScore], result: dict[str, Any]) -> Path:
    """Draw the pictures and write `report.html` into a run folder.

    Args:
        rows: the students that the search trained.
        result: what `result.json` holds.

    Returns:
        The path of `report.html`.
    """
    best = chosen(rows, spec.student.training.steps)
    pictures = {"surface": response.surface(rows, best), "curves": response.curves(rows, list(best))}
    for name, figure in pictures.items():
        response.save(figure, folder / f"{name}.png")
    return page.write_page(folder, render(folder, spec, rows, result))


def render(folder: Path, spec: TemperatureSpec, rows: Sequence[StudentScore], result: dict[str, Any]) -> str:
    """The page; the same search gives the same bytes.

    Args:
        folder: the run's, with `surface.png` and `curves.png`.
        result: what `result.json` holds.
    """
    selection, test = result["selection"], result["test"]
    widths = [f"Width {s['width']}: " if s["width"] else "" for s in selection["settings"]]
    choices = (
        f"{width}T {s['temperature']:.3g} with alpha {s['alpha']:.3g}."
        for width, s in zip(widths, selection["settings"])
    )
    counts = f"{plural(selection['images'], 'image')}, {plural(selection['seeds'], 'seed')}"
    lead = f"{' '.join(choices)} Chosen on the validation split ({counts}), then tested once."
    best = _best(rows, spec.student.training.steps)
    return page.page(folder.resolve().name, f"The temperature of {spec.data.source}", lead, [
        page.section("surface", "The response", *_pictures(folder, selection["seeds"])),
        page.section(
            "assessment", "How good it is",
            page.paragraph(
                f"Accuracies on the test split, {plural(test['images'], 'image')}; students with seeds of their own, "
                f"which took no part in the choice. The teacher has {result['teacher']['test']:.2f} % there."
            ),
            page.table("Test accuracies", COLUMNS, [
                page.Row((title(row), Markup("<b>{}</b>").format(spread(row)), str(row["n"]))) for row in test["rows"]
            ]),
            page.heading("The best settings on the validation split"),
            page.table("Validation accuracies", SETTINGS, best),
            page.paragraph(
                "The best of many is too good by chance; the test accuracies above are not. ± is the standard "
                "deviation over seeds.", "small",
            ),
        ),
        page.again(
            "raystill search temperature --config spec.yaml --run.name again", dump(spec, "search temperature"),
            *(page.folded(path.name, path.read_text()) for path in sorted(folder.glob("recipe*.yaml"))),
        ),
    ], _numbers(result))  # fmt: skip


def _pictures(folder: Path, seeds: int) -> Iterator[Markup]:
    yield page.figure(
        page.image(
            (folder / "surface.png").read_bytes(),
            "Mean validation accuracy over temperature and alpha, the chosen setting ringed.",
        ),
        f"Mean validation accuracy over {plural(seeds, 'seed')}; the choice is ringed. Settings that were stopped "
        "early show the accuracy that they had then.",
    )
    yield page.figure(
        page.image(
            (folder / "curves.png").read_bytes(),
            "Validation accuracy over temperature, a line for each student width.",
        ),
        "At each T the best alpha; the band is the standard error over seeds, the ring the best T.",
    )


def _numbers(result: dict[str, Any]) -> list[tuple[str, str]]:
    first, searched = result["selection"]["settings"][0], result["searched"]
    rows = result["test"]["rows"]
    return [
        (f"T {first['temperature']:.3g}", f"alpha {first['alpha']:.3g}: the choice by validation"),
        (spread(rows[0]), f"test accuracy, ± over {plural(rows[0]['n'], 'fresh student')}"),
        (spread(rows[1]), "the same students from labels alone"),
        (f"{searched['students']:,}", f"students of {plural(searched['settings'], 'setting')} ({searched['method']})"),
    ]


def _best(rows: Sequence[StudentScore], steps: int) -> list[page.Row]:
    means = sorted(summaries(rows, steps).items(), key=lambda entry: (entry[0].width, -entry[1].mean))
    lines = []
    for width in dict.fromkeys(setting.width for setting, _ in means):
        own = [(s, m) for s, m in means if s.width == width][:MOST]
        lines += [
            page.Row((str(s), spread({"mean": 100 * m.mean, "std": 100 * m.std, "n": m.n}), str(m.n))) for s, m in own
        ]
    return lines
