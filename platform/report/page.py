"""The one skeleton of every report: a self-contained HTML page of sections, tables and figures.

All functions but `page` and `write_page` return Markup. A plain string that they are given is escaped; Markup is not.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from raystill.platform.files.redaction import redacted
from raystill.platform.files.storage import write_whole

PAGE = "report.html"
STYLE = Path(__file__).with_name("page.css")
_SKELETON = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="raystill">
<link rel="icon" href="data:,">
<title>{title} · {name}</title>
<style>
{style}</style>
</head>
<body>
<header>
<p class="kicker">raystill · {name}</p>
<h1>{title}</h1>
<p class="lead">{lead}</p>
{numbers}</header>
<main>
{sections}
</main>
</body>
</html>
""")


class Row(NamedTuple):
    """One row of a table: its cells, the first of which is the row's header, and a CSS class."""

    cells: Sequence[str]
    style: str = ""


def page(name: str, title: str, lead: str, sections: Iterable[Markup], numbers: Sequence[tuple[str, str]] = ()) -> str:
    """A whole page; the same arguments give the same bytes.

    Args:
        name: of the run, above the title.
        title: heading of the page.
        lead: the result in one sentence.
        sections: from `section`, in their order.
        numbers: at the top: (value, description).
    """
    boxes = joined(Markup("<div><dd>{}</dd><dt>{}</dt></div>\n").format(*number) for number in numbers)
    return _SKELETON.format(
        name=name, title=title, lead=lead, style=Markup(STYLE.read_text(encoding="utf-8")),
        numbers=Markup('<dl class="numbers">\n{}</dl>\n').format(boxes) if numbers else "",
        sections=joined(sections, "\n"),
    )  # fmt: skip


def write_page(folder: Path, text: str) -> Path:
    """Write `report.html` into a run's folder, in place of an older one.

    Raises:
        ValueError: it can not be written.
    """
    path = folder / PAGE
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise ValueError(f"{path}: can not be written: {error.strerror or error}") from error
    return path


def joined(parts: Iterable[str], between: str = "") -> Markup:
    """Parts one after another."""
    return Markup(between).join(parts)


def section(anchor: str, title: str, *parts: str) -> Markup:
    """A section with a heading and the address `#anchor`."""
    return Markup('<section id="{}">\n<h2>{}</h2>\n{}\n</section>').format(anchor, title, joined(parts, "\n"))


def heading(title: str) -> Markup:
    """A heading inside a section."""
    return Markup("<h3>{}</h3>").format(title)


def paragraph(text: str, style: str = "") -> Markup:
    """A paragraph of explanation; `style` may be `small`, or `missing` for what a run does not have."""
    return Markup('<p class="{}">{}</p>').format(f"words {style}".strip(), text)


def verdict(word: str, sentence: str) -> Markup:
    """A sentence in a box whose colour shows its word: `ahead`, `within`, `behind` or `none`."""
    return Markup('<p class="verdict {}">{}</p>').format(word, sentence)


def table(label: str, columns: Sequence[tuple[str, str]], rows: Iterable[Row]) -> Markup:
    """A table that scrolls sideways on a narrow screen.

    Args:
        label: a description for screen readers.
        columns: (heading, CSS class of the whole column: `number`, `over` or none).
        rows: with a cell for each column.
    """
    head = joined(Markup('<th scope="col"{}>{}</th>').format(_style(style), title) for title, style in columns)
    lines = []
    for row in rows:
        first, *others = row.cells
        cells = [Markup('<th scope="row">{}</th>').format(first)]
        cells += [Markup("<td{}>{}</td>").format(_style(style), cell) for cell, (_, style) in zip(others, columns[1:])]
        lines.append(Markup("<tr{}>{}</tr>").format(_style(row.style), joined(cells)))
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{}">\n<table>\n<thead><tr>{}</tr></thead>\n'
        "<tbody>\n{}\n</tbody>\n</table>\n</div>"
    ).format(label, head, joined(lines, "\n"))


def _style(names: str) -> Markup:
    return Markup(' class="{}"').format(names) if names else Markup()


def small(text: str) -> Markup:
    """A remark below the text of a cell."""
    return Markup("<small>{}</small>").format(text)


def figure(picture: Markup, caption: str, title: str = "") -> Markup:
    """A picture (an SVG, or from `image`) with its caption below it, and perhaps a title above."""
    above = heading(title) if title else Markup()
    return Markup("<figure>{}{}<figcaption>{}</figcaption></figure>").format(above, picture, caption)


def figures(*each: Markup, style: str = "charts") -> Markup:
    """Figures side by side, as many as the screen is wide enough for: `charts`, or small `plots`."""
    return Markup('<div class="{}">\n{}\n</div>').format(style, joined(each, "\n"))


def image(png: bytes, words: str) -> Markup:
    """A PNG inside the page, no wider than it; `words` describe it for screen readers."""
    text = base64.b64encode(png).decode()
    return Markup('<img class="wide" src="data:image/png;base64,{}" alt="{}" loading="lazy">').format(text, words)


def command(text: str) -> Markup:
    """A command line to copy."""
    return Markup('<pre class="command"><code>{}</code></pre>').format(text)


def folded(summary: str, text: str) -> Markup:
    """A long text, without its credentials, that opens below its summary."""
    return Markup("<details><summary>{}</summary><pre><code>{}</code></pre></details>").format(summary, redacted(text))


def again(line: str, spec: str, *more: Markup, condition: str = "") -> Markup:
    """The last section: how to repeat the run.

    Args:
        line: the command that repeats it from its folder.
        spec: the resolved spec as YAML.
        more: further parts, such as other commands and facts.
        condition: end of the first sentence, such as what must be set.
    """
    lead = joined(("From this run's folder, exactly as it was", condition, ":"))
    return section("again", "Make it again", paragraph(lead), command(line), *more, folded("The resolved spec", spec))
