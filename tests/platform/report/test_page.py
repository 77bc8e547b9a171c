"""The skeleton that all pages share: whole, escaped, in order, and written at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from markupsafe import Markup

from raystill.platform.report import page

EVIL = '"><script>alert(1)</script>&'


def test_a_page_has_its_parts_in_their_order() -> None:
    sections = [
        page.section("first", "One", page.paragraph("text", "small"), page.heading("inside")),
        page.section("second", "Two", page.figures(page.figure(Markup("<svg></svg>"), "caption", "title"))),
        page.again("raystill kd", "spec: 1", page.command("raystill other"), condition=", with data"),
    ]
    text = page.page("run-1", "Title", "Lead.", sections, [("9 %", "accuracy")])
    wanted = (
        "<!doctype html>", "<title>Title · run-1</title>", "--paper:", "raystill · run-1", "<h1>Title</h1>", "Lead.",
        "<dd>9 %</dd><dt>accuracy</dt>", '<section id="first">', "<h2>One</h2>", '<p class="words small">text</p>',
        "<h3>inside</h3>", '<section id="second">', "<h3>title</h3><svg></svg><figcaption>caption</figcaption>",
        '<section id="again">', "as it was, with data:", "raystill kd", "raystill other", "spec: 1", "</html>",
    )  # fmt: skip
    places = [text.index(part) for part in wanted]
    assert places == sorted(places)


def test_every_plain_string_is_escaped() -> None:
    row = page.Row([EVIL, EVIL + page.small(EVIL)], "distilled")
    sections = [
        page.section("s", EVIL, page.paragraph(EVIL), page.verdict("none", EVIL), page.heading(EVIL)),
        page.table(EVIL, [(EVIL, ""), (EVIL, "number")], [row]),
        page.figure(page.image(b"png", EVIL), EVIL, EVIL),
        page.again(EVIL, EVIL, page.folded(EVIL, EVIL), condition=EVIL),
    ]
    text = page.page(EVIL, EVIL, EVIL, sections, [(EVIL, EVIL)])
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;&amp;") == 7 + 4 + 6 + 3 + 5


def test_a_table_gives_a_column_its_style_and_a_row_its_header() -> None:
    text = page.table(
        "label", [("name", ""), ("%", "number")], [page.Row(["a", "1"]), page.Row(["b", "2"], "baseline")]
    )
    assert '<th scope="col">name</th><th scope="col" class="number">%</th>' in text
    assert '<tr><th scope="row">a</th><td class="number">1</td></tr>' in text
    assert '<tr class="baseline"><th scope="row">b</th><td class="number">2</td></tr>' in text


def test_credentials_stay_out_of_folded_text() -> None:
    assert "hunter2" not in page.folded("spec", "uri: postgresql://me:hunter2@host/db")


def test_a_page_is_written_whole_and_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    assert page.write_page(tmp_path, "é").read_bytes() == "é".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/report.html: can not be written"):
        page.write_page(tmp_path / "file", "")
