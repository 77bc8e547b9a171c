"""The method, as sections of a spec: data, learner, synthesizer, start, inner and outer loop, meta-gradient.

What the bits of a result depend on is said here; what a run is beside that, in `spec.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raystill.platform.spec.section import Count, NoneOf, NoneWord, Part, Positive


class SynthesizerSpec(Part):
    """What is learned, and how it is cut into inner steps."""

    kind: str = Field("images", description="images, generator (GTN), or an entry point of raystill.synthesizers")
    per_class: Count = Field(1, description="images per class (IPC) of each step")
    images: Count | None = Field(
        None, description="images of each step, instead of per_class; may be fewer than classes"
    )
    steps: Count = Field(1, description="distinct steps, each with images of its own")
    epochs: Count = Field(3, description="passes over the steps; the unroll is steps x epochs long")
    labels: Literal["hard", "soft"] = Field(
        "hard", description="fixed one-hot labels, or labels learned beside the images"
    )
    label_start: Literal["hard", "smooth", "similar", "noise", "wanted"] = Field(
        "hard",
        description="what labels start from: one-hot, 0.9 of it and the rest even, 0.9 and the rest by the likeness of "
        "class averages, normal numbers, or one-hot of what the outer objective wants (poison)",
    )
    start: Literal["noise", "real", "average", "kmeans"] = Field("noise", description="what the images start from")
    augment: Annotated[tuple[Literal["flip", "shift", "scale", "rotate", "colour"], ...], NoneOf] = Field(
        (), description="changes of each inner step's images while learning (DSA), which gradients pass through"
    )
    frozen: bool = Field(False, description="leave the images as they start, and learn labels and rates alone")
    scales: Annotated[int, Field(ge=1, le=8)] = Field(
        1, description="resolutions that an image is the sum of, each half the one before; 1 learns pixels alone"
    )
    noise: Positive = Field(1.0, description="standard deviation of a noise start, in normalised units")
    curriculum: Annotated[Literal["full", "batch-shuffled", "all-shuffled", "none", "pixels"], NoneWord] = Field(
        "full",
        description="generator: learned latents in their order, their batches or all of them in a random order, fresh "
        "noise in place of them, or learned pixels in place of the generator",
    )
    latent: Count = Field(64, description="generator: numbers that an image is made from, beside its class")
    hidden: Count = Field(256, description="generator: units of the hidden layer")
    channels: Count = Field(
        32, description="generator: channels at a quarter of the image's side; half as many at half"
    )
    weight_norm: bool = Field(True, description="generator: learn each weight as g V / ||V||, length and direction")

    @model_validator(mode="after")
    def _few_images_need_soft_labels(self) -> SynthesizerSpec:
        if self.images is not None and self.per_class != 1:
            raise ValueError("give synthesizer.images or synthesizer.per_class, not both")
        if self.frozen and self.labels == "hard":
            raise ValueError(
                "synthesizer.frozen: images that stay need labels to learn; set synthesizer.labels to soft"
            )
        if self.frozen and self.scales > 1:
            raise ValueError("synthesizer.scales: images that stay (synthesizer.frozen) are learned at no resolution")
        if self.label_start not in ("hard", "wanted") and self.labels == "hard":
            raise ValueError(f"synthesizer.label_start: {self.label_start} needs synthesizer.labels to be soft")
        return self
