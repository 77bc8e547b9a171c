"""Section `synthesizer`: the synthesised data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raystill.platform.spec.section import Count, NoneOf, NoneWord, Part, Positive


class SynthesizerSpec(Part):
    """The synthesised data that is learned, and its division into inner steps."""

    kind: str = Field(
        "images",
        description="what is learned: images; generator: a network that generates images (GTN); or an entry point "
        "of raystill.synthesizers",
    )
    per_class: Count = Field(1, description="images per class (IPC) in each step")
    images: Count | None = Field(
        None,
        description="images in each step, where per_class does not fit; may be fewer than classes; none: per_class",
    )
    steps: Count = Field(1, description="steps with images of their own")
    epochs: Count = Field(3, description="passes over the steps; a network trains for steps x epochs inner steps")
    labels: Literal["hard", "soft"] = Field(
        "hard", description="hard: fixed one-hot labels; soft: labels are learned beside the images"
    )
    label_start: Literal["hard", "smooth", "similar", "noise", "wanted"] = Field(
        "hard",
        description="first values of the labels: hard: one-hot; smooth: 0.9 and the rest spread evenly; "
        "similar: 0.9 and the rest by similarity of class averages; noise: normal numbers; "
        "wanted: one-hot of the class that the outer objective asks for (poison)",
    )
    start: Literal["noise", "real", "average", "kmeans"] = Field(
        "noise",
        description="first values of the images: noise, real images, averages of each class, or its k-means centres",
    )
    augment: Annotated[tuple[Literal["flip", "shift", "scale", "rotate", "colour"], ...], NoneOf] = Field(
        (), description="augmentations of each inner step's images during learning (DSA); gradients pass through them"
    )
    frozen: bool = Field(
        False, description="keep the images as they start; only labels and inner learning rates are learned"
    )
    scales: Annotated[int, Field(ge=1, le=8)] = Field(
        1, description="resolutions whose sum makes an image, each half the one before; 1: pixels alone"
    )
    noise: Positive = Field(1.0, description="standard deviation of a noise start, in units of normalised pixels")
    curriculum: Annotated[Literal["full", "batch-shuffled", "all-shuffled", "none", "pixels"], NoneWord] = Field(
        "full",
        description="inputs of the generator: full: learned latents in their order; batch-shuffled: their "
        "batches in random order; all-shuffled: all latents in random order; none: fresh noise; "
        "pixels: no generator, learned pixels",
    )
    latent: Count = Field(64, description="generator: length of the latent vector of an image, without its class")
    hidden: Count = Field(256, description="generator: units of the hidden layer")
    channels: Count = Field(
        32, description="generator: channels at a quarter of the image's side; at half of it there are half as many"
    )
    weight_norm: bool = Field(
        True, description="generator: learn each weight as g V / ||V||, a length g and a direction V"
    )

    @model_validator(mode="after")
    def _few_images_need_soft_labels(self) -> SynthesizerSpec:
        if self.images is not None and self.per_class != 1:
            raise ValueError("give synthesizer.images or synthesizer.per_class, not both")
        if self.frozen and self.labels == "hard":
            raise ValueError(
                "synthesizer.frozen: frozen images leave only labels to learn; set synthesizer.labels to soft"
            )
        if self.frozen and self.scales > 1:
            raise ValueError("synthesizer.scales: frozen images (synthesizer.frozen) are not learned at any resolution")
        if self.label_start not in ("hard", "wanted") and self.labels == "hard":
            raise ValueError(f"synthesizer.label_start: {self.label_start} needs synthesizer.labels to be soft")
        return self
