"""`report.html` of a temperature search: one self-contained page, and the table that the terminal shows."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from raystill.platform.files.redaction import redacted
from raystill.platform.report.words import plural
from raystill.platform.runs import dump
from raystill.search.temperature import response
from raystill.search.temperature.settings import Row, chosen, summaries
from raystill.search.temperature.spec import TemperatureSpec

PAGE = "report.html"


def spread(row: dict[str, Any]) -> str:
    """`94.20 ± 0.31 %`; one student has no spread."""
    return f"{row['mean']:.2f} ± {row['std']:.2f} %" if row["n"] > 1 else f"{row['mean']:.2f} %"


def named(row: dict[str, Any]) -> str:
    """A row's name with its width and setting."""
    width = f"width {row['width']}, " if row["width"] else ""
    setting = f" (T {row['temperature']:.3g}, alpha {row['alpha']:.3g})" if "temperature" in row else ""
    return f"{width}{row['name']}{setting}"


def table(result: dict[str, Any]) -> list[str]:
    """Test accuracies, one line each."""
    lines = [f"{named(r):52s} {spread(r):>18s}  (test, {plural(r['n'], 'student')})" for r in result["test"]["rows"]]
    return [*lines, f"{'teacher':52s} {result['teacher']['test']:16.2f} %  (test)"]


def write(folder: Path, spec: TemperatureSpec, rows: Sequence[Row], result: dict[str, Any]) -> Path:
    """Draw the pictures and write the page into a run folder."""
    best = chosen(rows, spec.student.training.steps)
    pictures = {"surface": response.surface(rows, best), "curves": response.curves(rows, list(best))}
    for name, figure in pictures.items():
        response.save(figure, folder / f"{name}.png")
    page = render(folder, spec, rows, result)
    temporary = folder / f".{PAGE}.tmp"
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, folder / PAGE)
    return folder / PAGE


def _picture(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _numbers(result: dict[str, Any]) -> list[tuple[str, str]]:
    first, searched = result["selection"]["settings"][0], result["searched"]
    alone = result["test"]["rows"]
    return [
        (f"T {first['temperature']:.3g}", f"alpha {first['alpha']:.3g}: the choice by validation"),
        (spread(alone[0]), f"test accuracy, ± over {plural(alone[0]['n'], 'fresh student')}"),
        (spread(alone[1]), "the same students from labels alone"),
        (f"{searched['students']:,}", f"students of {plural(searched['settings'], 'setting')} ({searched['method']})"),
    ]


def _best(rows: Sequence[Row], steps: int, most: int = 12) -> list[dict[str, Any]]:
    means = sorted(summaries(rows, steps).items(), key=lambda entry: (entry[0].width, -entry[1].mean))
    found = []
    for width in dict.fromkeys(setting.width for setting, _ in means):
        own = [(s, m) for s, m in means if s.width == width][:most]
        found += [{"setting": str(s), "mean": 100 * m.mean, "std": 100 * m.std, "n": m.n} for s, m in own]
    return found


def render(folder: Path, spec: TemperatureSpec, rows: Sequence[Row], result: dict[str, Any]) -> str:
    """The page; the same search gives the same bytes."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    css = files("raystill.platform.report").joinpath("page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        title=f"The temperature of {spec.data.source}", run_name=folder.resolve().name, css=Markup(css),
        numbers=_numbers(result), result=result, spread=spread, named=named, plural=plural,
        surface=_picture(folder / "surface.png"), curves=_picture(folder / "curves.png"),
        best=_best(rows, spec.student.training.steps), spec=spec, spec_text=redacted(dump(spec, "search temperature")),
        recipes={p.name: p.read_text() for p in sorted(folder.glob("recipe*.yaml"))},
    )  # fmt: skip
