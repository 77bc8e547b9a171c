"""Synthesizers: parametrisations of the distilled data that are learned."""

from __future__ import annotations

from collections.abc import Callable

from raystill.platform import registry
from raystill.platform.objectives import of_outer
from raystill.platform.spec import DistillSpec
from raystill.platform.synthesis.generator import generator
from raystill.platform.synthesis.images import images
from raystill.platform.synthesis.synthesizer import LEARN, Meta, Synthesizer

__all__ = ["LEARN", "SYNTHESIZERS", "Meta", "Synthesizer", "build"]

SYNTHESIZERS: dict[str, Callable[..., Synthesizer]] = {"images": images, "generator": generator}


def build(
    spec: DistillSpec, shape: tuple[int, int, int], classes: int, plugins: registry.Plugins | None = None
) -> Synthesizer:
    """Build the synthesizer of a spec.

    The registry has functions (spec, shape, classes, relabels, **settings) -> `Synthesizer`; `relabels` are the pairs
    (class, class that the outer objective wants predicted for it).

    Args:
        spec: its `synthesizer`, `inner` and `outer` sections.
        shape: of the images (C, H, W).
        classes: number of classes.
        plugins: the caller's own synthesizers and objectives.

    Raises:
        ValueError: an unknown kind or setting, or a spec that the kind refuses.
    """
    field, part = "synthesizer.kind", spec.synthesizer
    make = registry.bound("synthesizers", part.kind, SYNTHESIZERS, plugins, field, own=4)
    relabels = of_outer(spec.outer, plugins).facts.relabels if part.label_start == "wanted" else ()
    synthesizer: Synthesizer = make(spec, shape, classes, relabels)
    return synthesizer
