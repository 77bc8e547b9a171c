"""The architecture page names files that exist, and the site's navigation names every page."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_where_would_i_change_names_files_that_exist() -> None:
    page = (ROOT / "docs/how-it-works/index.md").read_text()
    rows = re.findall(r"^\| .* \| (`.*`.*) \|$", page, re.MULTILINE)
    assert len(rows) >= 20
    paths = re.findall(r"`((?:platform|actors|search)/[\w/.]*)`", page)
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_list_of_what_is_not_run_names_tests_that_exist() -> None:
    page = (ROOT / "docs/how-it-works/not-run.md").read_text()
    assert not [path for path in re.findall(r"`(tests/[\w/.]*)`", page) if not (ROOT / path).exists()]


def test_lines_of_prose_end_within_120_characters() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        prose = re.sub(r"`[^`\n]*`|\]\([^)\n]*\)", "", prose)  # a command or an address can not be broken
        long = [line for line in prose.splitlines() if len(line) > 120 and not line.startswith(("|", "#", "!["))]
        assert not long, f"{page.name}: {long[0]}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert not [page for page in pages if page not in navigation]
