"""The contract of a modality: all functions that depend on the kind of example."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from markupsafe import Markup
    from PIL import Image
    from torch import Tensor

    from raystill.platform.data.sources.raw import Portion
    from raystill.platform.data.store import Decoded
    from raystill.platform.spec import DataSpec

Section = Mapping[str, Any]
"""The section of a manifest under the name of its modality."""


class Encoded(NamedTuple):
    """The examples of a source in their stored form.

    Attributes:
        x: by split, an array [N, ...] of one type.
        vocabulary: the word of each stored id; empty where examples are not ids.
        truncated: by split, how many examples were shortened.
    """

    x: dict[str, np.ndarray]
    vocabulary: tuple[str, ...] = ()
    truncated: Mapping[str, int] = {}


class Request(NamedTuple):
    """Settings of a decoding.

    Attributes:
        spec: the section `data`.
        progress: called with (examples decoded, all examples).
        known: words of other corpora that the vocabulary includes.
    """

    spec: DataSpec
    progress: Callable[[int, int], None] | None = None
    known: Sequence[str] = ()


class Payload(Protocol):
    """Data that examples need beside their arrays, such as the vectors of words.

    Attributes:
        table: the vector of each stored id, float32 [V, D], or None.
        fingerprint: sha256 hex of the payload.
    """

    @property
    def table(self) -> np.ndarray | None: ...

    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Companion:
    """How a modality makes, stores and uses its payload.

    Attributes:
        make: (spec, decoded source, cache folder, decoded corpora by name) -> the payload.
        describe: (payload, x float32 [S, M, C, H, W]) -> the manifest's section.
        problem: (section, x, payload or None) -> why they do not fit together, or "".
        columns: section -> columns of `data.parquet`, one value for each example, in the order of steps.
        file: name of the payload's file in an artefact.
        write: (file, payload) -> nothing.
        read: (file, section) -> the payload.
        embed: (payload, undecoded examples, (C, H, W)) -> float32 [N, C, H, W].
        lists: keys of the section with one value for each example.
    """

    make: Callable[[DataSpec, Decoded, Path, Mapping[str, Decoded]], Payload]
    describe: Callable[[Any, np.ndarray], dict[str, Any]]
    problem: Callable[[Section, np.ndarray, Any], str]
    columns: Callable[[Section], dict[str, list[Any]]]
    file: str
    write: Callable[[Path, Any], None]
    read: Callable[[Path, Section], Payload]
    embed: Callable[[Any, Sequence[Any], tuple[int, ...]], np.ndarray]
    lists: tuple[str, ...] = ()


class Rendering(NamedTuple):
    """Distilled examples as HTML and pictures.

    Attributes:
        words: a sentence that explains the rendering.
        html: (step, position, alternative text) -> an element.
        picture: (step, position, side in pixels) -> a picture.
        width: of an example on a page, in CSS pixels and in percent of a narrow screen; None takes the page's default.
    """

    words: str
    html: Callable[[int, int, str], Markup]
    picture: Callable[[int, int, int], Image.Image]
    width: tuple[int, int] | None = None


def _alike(x: Tensor) -> Tensor:
    return x


def _no_shift(x: Tensor, rng: np.random.Generator) -> Tensor:
    return x


def _no_statistics(x: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return (0.0,), (1.0,)


@dataclass(frozen=True, eq=False)
class Modality:
    """A kind of example: how it is decoded, converted to numbers, named and rendered.

    Attributes:
        name: in manifests and in `Raw.modality`.
        noun: for one example, such as image.
        decode: (portions by split, request) -> checked examples; raises a ValueError that names the field or place.
        numbers: (stored [n, ...], payload's table or None) -> float32 [n, C, H, W], for arrays and tensors; a copy.
        size: (C, H, W) -> an example's size in words.
        render: (x float32 [S, M, C, H, W], manifest) -> the rendering of distilled examples.
        statistics: stored training examples -> mean and standard deviation of each channel of `numbers`.
        features: float32 [..., C, H, W] -> features that nearest neighbours compare.
        shift: (float32 [N, C, H, W], generator) -> the examples, each shifted by a draw of its own.
        average: (stored [n, ...], table) -> the mean example, float32 [C, H, W]; None sums `numbers` in pieces.
        bounds: least and largest value of `numbers`, or None.
        nouns: the plural of `noun`; "" adds an s.
        companion: None where examples need no payload.
    """

    name: str
    noun: str
    decode: Callable[[Mapping[str, Portion], Request], Encoded]
    numbers: Callable[[Any, Any], Any]
    size: Callable[[tuple[int, int, int]], str]
    render: Callable[[np.ndarray, Mapping[str, Any]], Rendering]
    statistics: Callable[[np.ndarray], tuple[tuple[float, ...], tuple[float, ...]]] = _no_statistics
    features: Callable[[Tensor], Tensor] = _alike
    shift: Callable[[Tensor, np.random.Generator], Tensor] = _no_shift
    average: Callable[[np.ndarray, np.ndarray | None], np.ndarray] | None = None
    bounds: tuple[float, float] | None = None
    nouns: str = field(default="")
    companion: Companion | None = None

    def count(self, number: int, adjective: str = "") -> str:
        """`1 image`, `1,000 distilled images`."""
        noun = self.noun if number == 1 else self.plural
        return f"{number:,} {adjective} {noun}" if adjective else f"{number:,} {noun}"

    @property
    def plural(self) -> str:
        """The plural of `noun`."""
        return self.nouns or f"{self.noun}s"
