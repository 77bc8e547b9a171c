"""Distilled data in a notebook: short, escaped, bounded, with a picture that opens."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from raystill.platform import seeds
from raystill.platform.artifacts import Distilled, notebook

MOST_HTML = 500_000


def distilled(steps: int = 2, each: int = 10, shape: tuple[int, int, int] = (1, 8, 8), **manifest: object) -> Distilled:
    rng = seeds.numpy_rng(seeds.Address(3))
    images = rng.standard_normal((steps, each, *shape)).astype(np.float32)
    labels = np.tile(np.arange(each) % 10, (steps, 1)).astype(np.int64)
    rates = {"lr": np.linspace(0.5, 0.25, 3 * steps).astype(np.float32)}
    order = np.tile(np.arange(steps), 3).astype(np.int64)
    return Distilled(images, labels, rates, order, None, {"classes": [str(k) for k in range(10)], **manifest})


def closed(text: str) -> list[str]:
    """The names of all elements, after checking that each one is closed in its order."""
    names: list[str] = []
    still_open: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            names.append(tag)
            if tag != "img":
                still_open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert still_open.pop() == tag

    Reader(convert_charrefs=True).feed(text)
    assert not still_open
    return names


def picture(text: str) -> Image.Image:
    found = re.search(r'src="data:image/png;base64,([^"]+)"', text)
    assert found
    return Image.open(io.BytesIO(base64.b64decode(found[1])))


def test_one_line_says_what_it_is() -> None:
    line = repr(distilled(spec={"data": {"source": "digits"}}, learner={"name": "mlp"}))
    assert line == (
        "Distilled(20 distilled images of digits: images 2 steps of 10, each 1 × 8 × 8; labels ids of 10 classes; "
        "teaches mlp from fresh weights; inner steps 6; learning rate 0.25 to 0.5)"
    )


def test_a_cell_shows_a_table_and_the_picture() -> None:
    text = distilled(spec={"data": {"source": "digits"}})._repr_html_()
    names = closed(text)
    assert names.count("tr") == 4
    assert names.count("img") == 1
    assert "learning rate 0.25 to 0.5" in text
    with picture(text) as png:
        assert png.width > 500


def test_names_from_a_file_are_escaped() -> None:
    evil = "<script>alert('&')</script>"
    data = distilled(spec={"data": {"source": evil}}, learner={"name": evil})
    text = data._repr_html_()
    assert "script" not in closed(text)
    assert text.count("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;") >= 3  # title, learner, alternative text


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 128, 128)])
def test_noise_of_any_size_stays_below_half_a_megabyte(shape: tuple[int, int, int]) -> None:
    large = distilled(10, 100, shape)
    assert len(large._repr_html_()) < MOST_HTML
    assert len(repr(large)) < 400


def test_a_curve_leaves_out_what_is_not_finite() -> None:
    text = notebook.curve(np.array([1.0, np.nan, 3.0, 2.0]), "a & b")
    points = re.search(r'points="([^"]+)"', text)
    assert points
    # from 1 at the bottom (90 - 4) over 3 at the top (4) to 2 in the middle, evenly across 320 pixels less the edges
    assert points[1] == "2.0,86.0 160.0,4.0 318.0,45.0"
    assert "a &amp; b" in text
    assert notebook.curve(np.array([1.0, np.inf]), "") == ""
