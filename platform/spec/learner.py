"""The method, as sections of a spec: data, learner, synthesizer, start, inner and outer loop, meta-gradient.

What the bits of a result depend on is said here; what a run is beside that, in `spec.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raystill.platform.spec.section import Count, Natural, NoneOf, NoneWord, Part, Positive

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""An architecture's hash (`raystill.platform.architectures.Arch.key`)."""


class LearnerSpec(Part):
    """The network that learns from the synthesised data."""

    name: str = Field(
        "lenet",
        description="linear, mlp, lenet, alexnet, convnet, resnet, strips, textcnn, birnn, bilstm, an entry point of "
        "raystill.learners, or an architecture (macro:d3-w16-x2-k3-max-group-relu-gap)",
    )
    init: Literal["xavier", "kaiming", "orthogonal", "normal", "default"] = Field(
        "xavier", description="distribution that initial weights are drawn from"
    )
    gain: Positive = Field(1.0, description="factor on the initialisation's standard deviation")
    width: Count | None = Field(None, description="channels or hidden units; none takes the network's own")
    depth: Count | None = Field(None, description="blocks or hidden layers; none takes the network's own")
    weight_norm: bool = Field(False, description="learn each layer's weight as g V / ||V||, length and direction")
    draw: Annotated[str, NoneWord] = Field(
        "none",
        description="what each member of meta-training learns with: none takes the learner above, widths draws its "
        "width, and a space (macro, cell, enas) an architecture; validation and assessment keep the learner above",
    )
    widths: tuple[Count, Count] = Field((4, 32), description="least and most width (draw: widths)")
    exclude: Annotated[tuple[Key, ...], NoneOf] = Field(
        (), description="keys of architectures that are never drawn: those to be judged later"
    )
    trial: Natural = Field(
        30,
        description="steps on real data in which a drawn architecture must begin to learn; 0 takes any (draw: a space)",
    )

    begun: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.95, description="share of the loss of a guess, ln K, that it must come below for that"
    )

    @model_validator(mode="after")
    def _widths_in_order(self) -> LearnerSpec:
        if self.widths[0] > self.widths[1]:
            raise ValueError(f"learner.widths: {self.widths[0]} is above {self.widths[1]}; the least comes first")
        return self
