"""Decode images to one uint8 array, in parallel; all must have the same size and channels."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raystill.platform.data.sources.raw import Image as Item
from raystill.platform.data.sources.raw import Portion

Progress = Callable[[int, int], None]

_CHUNK = 256  # images a task of the thread pool
# errors that Pillow raises for corrupt images
_CORRUPT = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip
_CHANNELS = {"1": 1, "L": 1, "LA": 1, "La": 1} | dict.fromkeys(
    ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"), 3
)
_KIND = {1: "grey", 3: "colour"}


def decode(splits: Mapping[str, Portion], size: int | None, progress: Progress | None = None) -> dict[str, np.ndarray]:
    """Decode the images of every split.

    Args:
        splits: the source's, by name.
        size: resize each image to [size, size] with antialiasing; None does not resize.
        progress: called from this thread with (images decoded, all images).

    Returns:
        uint8 [N, C, H, W] of each split; C is 1 for grey and 3 for colour.

    Raises:
        ValueError: no images, a corrupt image, mixed sizes, or grey beside colour; the message names the place.
    """
    for split, portion in splits.items():
        if len(portion.images) == 0:
            raise ValueError(f"data.source: split {split} has no images")
    tick = _counted(sum(len(portion.images) for portion in splits.values()), progress)
    x = {split: _decode(portion, size, tick) for split, portion in splits.items()}
    (head, first), *others = x.items()
    for split, other in others:
        if other.shape[1:] != first.shape[1:]:
            places = f"{head} {splits[head].place(0)}", f"{split} {splits[split].place(0)}"
            _refuse(first[0], other[0], *places)
    return x


def _decode(portion: Portion, size: int | None, tick: Callable[[int], None]) -> np.ndarray:
    # -> uint8 [N, C, H, W]
    images = portion.images
    if isinstance(images, np.ndarray):
        images = _channels_last(images)
        if size is None or images.shape[1:3] == (size, size):
            tick(len(images))
            return np.ascontiguousarray(np.moveaxis(images, -1, 1))
    first = _one(images[0], size, portion.place, 0)
    x = np.empty((len(images), *first.shape), np.uint8)

    def fill(start: int) -> int:
        stop = min(start + _CHUNK, len(images))
        for row in range(start, stop):
            image = _one(images[row], size, portion.place, row)
            if image.shape != first.shape:
                _refuse(first, image, portion.place(0), portion.place(row))
            x[row] = image
        return stop - start

    # threads suffice: Pillow releases the interpreter lock while it decodes. Results are read in order, so that the
    # first bad image is the one that is reported.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pending = [pool.submit(fill, start) for start in range(0, len(images), _CHUNK)]
        try:
            for future in pending:
                tick(future.result())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return x


def integer_labels(portion: Portion, classes: int | None) -> np.ndarray:
    """Check the labels of one split and return them as int64 [N].

    Raises:
        ValueError: not one integer per image, or outside 0..classes-1; the message names the place.
    """
    y = portion.labels
    if y.shape != (len(portion.images),):
        raise ValueError(f"data.source: {len(portion.images)} images but labels of shape {list(y.shape)}")
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"data.label_column: labels are {y.dtype}, expected integers from 0")
    wrong = np.flatnonzero((y < 0) | (y >= (classes or np.inf)))
    if len(wrong):
        valid = f"0..{classes - 1}" if classes else "0 and above"
        raise ValueError(f"data.label_column: label {y[wrong[0]]} at {portion.place(int(wrong[0]))} is not in {valid}")
    return y.astype(np.int64)


def _channels_last(images: np.ndarray) -> np.ndarray:
    if images.dtype != np.uint8:
        raise ValueError(f"data.source: images are {images.dtype}, expected uint8 from 0 to 255")
    if images.ndim == 3:
        return images[..., None]
    if images.ndim == 4 and images.shape[3] in _KIND:
        return images
    if images.ndim == 4 and images.shape[1] in _KIND:
        return np.moveaxis(images, 1, -1)
    raise ValueError(
        f"data.source: images of shape {list(images.shape)}, expected [N, H, W], [N, H, W, C] or [N, C, H, W]"
    )


def _one(item: Item, size: int | None, place: Callable[[int], str], row: int) -> np.ndarray:
    # -> uint8 [C, H, W]
    try:
        with _opened(item) as image:
            mode = image.mode
            image.load()
            if mode not in _CHANNELS:
                raise ValueError(f"pixels of mode {mode} (of 8-bit grey and colour only)")
            channels = _CHANNELS[mode]
            image = image.convert("L" if channels == 1 else "RGB")
    except _CORRUPT as error:
        raise ValueError(f"data.source: cannot decode {place(row)}: {_reason(error)}") from error
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _opened(item: Item) -> Any:
    if isinstance(item, str):
        raise ValueError("a text among images")
    if isinstance(item, np.ndarray):
        pixels = _channels_last(item[None])[0]
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return Image.open(item if isinstance(item, Path) else io.BytesIO(item))


def _reason(error: Exception) -> str:
    # Pillow's message has the memory address of the stream
    return "not an image" if "cannot identify" in str(error) else str(error)


def _refuse(first: np.ndarray, other: np.ndarray, here: str, there: str) -> None:
    if first.shape[0] != other.shape[0]:
        kinds = _KIND[first.shape[0]], _KIND[other.shape[0]]
        raise ValueError(f"data.source: {here} is {kinds[0]} but {there} is {kinds[1]}; convert them all to one")
    raise ValueError(
        f"data.size: images of mixed sizes, {_size(first)} at {here} and {_size(other)} at {there}; "
        "set data.size to resize them all"
    )


def _size(image: np.ndarray) -> str:
    return f"{image.shape[2]}x{image.shape[1]}"


def _counted(total: int, progress: Progress | None) -> Callable[[int], None]:
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return tick
