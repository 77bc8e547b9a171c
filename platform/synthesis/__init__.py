"""Synthesizers: what is learned."""

from __future__ import annotations

from raystill.platform import registry
from raystill.platform.spec import DistillSpec
from raystill.platform.synthesis.generator import generator
from raystill.platform.synthesis.images import images
from raystill.platform.synthesis.synthesizer import LEARN, Meta, Synthesizer

__all__ = ["LEARN", "SYNTHESIZERS", "Meta", "Synthesizer", "build"]

SYNTHESIZERS = {"images": images, "generator": generator}


def build(
    spec: DistillSpec, shape: tuple[int, int, int], classes: int, plugins: registry.Plugins | None = None
) -> Synthesizer:
    """The synthesizer of a spec for images of `shape` (C, H, W).

    Raises:
        ValueError: unknown kind, or a spec that the kind refuses.
    """
    make = registry.resolve("synthesizers", spec.synthesizer.kind, SYNTHESIZERS, plugins, "synthesizer.kind")
    synthesizer: Synthesizer = make(spec, shape, classes)
    return synthesizer
