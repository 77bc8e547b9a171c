"""Pixels and the preview: what is drawn is what the data says, at any shape."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from raystill.platform import seeds
from raystill.platform.artifacts.files import Distilled
from raystill.platform.artifacts.labels import strongest
from raystill.platform.artifacts.preview import ACCENT, GUTTER, HEADER, MARGIN, preview
from raystill.platform.data.modality.image import data_uri, to_pixels


def distilled(s: int, m: int, shape: tuple[int, int, int], soft: bool = False, classes: int = 10) -> Distilled:
    rng = seeds.numpy_rng(seeds.Address(2))
    labels = np.tile(np.arange(m) % classes, (s, 1)).astype(np.int64)
    rows = np.eye(classes, dtype=np.float32)[labels] - 0.05
    rates = {name: np.full(3 * s, 0.5, np.float32) for name in ("lr", "momentum")}
    images = rng.uniform(0, 1, (s, m, *shape)).astype(np.float32)
    order = np.tile(np.arange(s), 3).astype(np.int64)
    return Distilled(images, rows if soft else labels, rates, order, None, {})


def test_photographs_keep_their_range() -> None:
    pixels = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 1, 8, 8)
    shown, words = to_pixels((pixels - 0.3) / 0.2, {"mean": [0.3], "std": [0.2]})
    assert shown.shape == (1, 1, 8, 8, 3)
    np.testing.assert_array_equal(shown[0, 0, ..., 0], np.rint(pixels[0, 0, 0] * 255))
    assert "natural" in words


def test_a_wide_range_is_stretched_for_all_alike() -> None:
    images = np.linspace(-4, 6, 2 * 64, dtype=np.float32).reshape(1, 2, 1, 8, 8)
    shown, words = to_pixels(images, None)
    assert shown[0, 0].max() < shown[0, 1].min() + 2  # the order between images is kept
    assert "-3.90" in words
    assert "5.90" in words


def test_colours_are_normalised_by_channel() -> None:
    images = np.zeros((1, 1, 3, 2, 2), np.float32)
    shown, _ = to_pixels(images, {"mean": [0.0, 0.5, 1.0], "std": [1.0, 1.0, 1.0]})
    assert shown[0, 0, 0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("grey", [True, False])
def test_a_data_uri_is_the_picture(grey: bool) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    if grey:
        pixels[:] = pixels[..., :1]
    kind, data = data_uri(pixels).split(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), pixels)


def test_strongest() -> None:
    assert [name for name, _ in strongest(np.array([0.1, 0.7, 0.7, -2.0]), "abcd")] == ["b", "c"]


def test_an_image_is_drawn_by_whole_pixels() -> None:
    d = distilled(1, 1, (1, 8, 8))
    cell = np.asarray(preview(d))[MARGIN + HEADER :, MARGIN + GUTTER :][:80, :80, 0]
    blocks = cell.reshape(8, 10, 8, 10)
    np.testing.assert_array_equal(blocks[:, 0, :, 0], np.rint(d.images[0, 0, 0] * 255))
    assert (blocks == blocks[:, :1, :, :1]).all()


@pytest.mark.parametrize(
    ("s", "m", "shape", "soft", "classes"),
    [
        (1, 10, (1, 28, 28), False, 10),
        (10, 10, (1, 28, 28), False, 10),
        (1, 5, (1, 28, 28), True, 10),
        (1, 10, (1, 8, 8), False, 10),
        (2, 10, (3, 32, 32), False, 10),
        (1, 1, (2, 5, 9), False, 2),
        (1, 4, (3, 200, 100), True, 4),
        (3, 300, (1, 4, 4), False, 100),
        (1, 2, (1, 8, 8), True, 1000),
    ],
)
def test_any_shape_is_drawn(s: int, m: int, shape: tuple[int, int, int], soft: bool, classes: int) -> None:
    picture = preview(distilled(s, m, shape, soft, classes))
    assert picture.width < 2200
    assert picture.height < 4000
    if soft and classes <= 100:
        accent = tuple(bytes.fromhex(ACCENT[1:]))
        assert (np.asarray(picture) == accent).all(-1).any()
