"""Section `learner`: the network that learns from the synthesised data."""

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
        description="network: linear, mlp, lenet, alexnet, convnet, resnet, strips, textcnn, birnn, bilstm, "
        "an entry point of raystill.learners, or an architecture "
        "(macro:d3-w16-x2-k3-max-group-relu-gap)",
    )
    init: Literal["xavier", "kaiming", "orthogonal", "normal", "default"] = Field(
        "xavier", description="distribution of the initial weights"
    )
    gain: Positive = Field(1.0, description="factor on the standard deviation of the initial weights")
    width: Count | None = Field(None, description="channels or hidden units; none: the network's usual width")
    depth: Count | None = Field(None, description="blocks or hidden layers; none: the network's usual depth")
    weight_norm: bool = Field(
        False, description="learn each layer's weight as g V / ||V||, a length g and a direction V"
    )
    draw: Annotated[str, NoneWord] = Field(
        "none",
        description="network of each member of an outer step: none: the learner above; widths: the learner in "
        "a drawn width; a space (macro, cell, enas, or an entry point of raystill.spaces): a "
        "drawn architecture. Validation and assessment use the learner above",
    )
    widths: tuple[Count, Count] = Field((4, 32), description="smallest and largest width (draw: widths)")
    exclude: Annotated[tuple[Key, ...], NoneOf] = Field(
        (), description="keys of architectures that are never drawn, such as those of a later test"
    )
    trial: Natural = Field(
        30,
        description="real training steps after which a drawn architecture must have begun to learn (see "
        "begun); 0: no trial (draw: a space)",
    )

    begun: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.95,
        description="a drawn network counts as trainable when its loss after the trial is below begun times "
        "ln K, the loss of guessing among K classes",
    )

    @model_validator(mode="after")
    def _widths_in_order(self) -> LearnerSpec:
        if self.widths[0] > self.widths[1]:
            raise ValueError(
                f"learner.widths: {self.widths[0]} is above {self.widths[1]}; give the smaller width first"
            )
        return self
