"""The method, as sections of a spec: data, learner, synthesizer, start, inner and outer loop, meta-gradient.

What the bits of a result depend on is said here; what a run is beside that, in `spec.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ByteSize, Field, model_validator

from raystill.platform.parts import Count, Fraction, Natural, NoneOf, NoneWord, Part, Positive


class DataSpec(Part):
    """Where the real data comes from and how it is split."""

    source: str = Field(
        "digits",
        description="digits, a name looked up under the data root (mnist, cifar10, ...), parquet:PATH, folder:PATH, "
        "or an entry point of raystill.sources",
    )
    root: Path | None = Field(None, description="folder where data sets are found by name; else $RAYSTILL_DATA")
    validation: Fraction = Field(0.1, description="share of train held out by seed where the source has no validation")
    split_seed: Natural = Field(0, description="seed of the held-out split")
    image_column: str = Field("image", description="Parquet column with the encoded image")
    text_column: str = Field("text", description="Parquet column with the text, where there is no image column")
    label_column: str = Field("label", description="Parquet column with the integer label")
    size: Count | None = Field(None, description="resize to this many pixels on each side; none keeps the source's")
    whiten: Literal["none", "zca"] = Field(
        "none", description="take the correlations out of pixels, by training images"
    )
    length: Count | None = Field(
        None,
        description="tokens kept of each text; none takes what leaves 95 % of the training texts whole, at most 400",
    )
    vocabulary: Count = Field(20000, description="words of the training texts that are known, the most frequent ones")
    embeddings: Path | None = Field(
        None, description="GloVe text file with the words' vectors; none makes them here, of the training texts"
    )
    corpus: Annotated[tuple[str, ...], NoneOf] = Field(
        (),
        description="other sources of texts (imdb,sst2) whose training texts also make the vectors; their words are "
        "known, their labels are not read",
    )
    embedding_width: Count | None = Field(
        None, description="numbers of a word's vector; none takes the file's, or 100 for those made here"
    )
    limit: Count | None = Field(None, description="use at most this many training images, drawn by the split seed")
    download: bool = Field(False, description="let torchvision download what the data root lacks")
    cache: Path | None = Field(None, description="folder of the Arrow cache; else $RAYSTILL_CACHE or ~/.cache/raystill")


Key = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""An architecture's hash (`raystill.search.space.Arch.key`)."""


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


class InitialisationSpec(Part):
    """Where the learner starts: theta0 ~ p(theta0)."""

    kind: Literal["fixed", "random", "pool", "pretrained"] = Field(
        "random",
        description="one network (its weights are part of the result), fresh networks at each step, networks of a pool "
        "that `raystill pretrain` made, or one pre-trained network",
    )
    path: Path | None = Field(None, description="pool's folder; for pretrained also a safetensors file of weights")
    member: Natural = Field(0, description="which network of the pool's train part is the one (pretrained)")
    content: str | None = Field(None, description="sha256 of what the path holds; filled in as a run is planned")

    @property
    def single(self) -> bool:
        """Whether there is one starting network, whose weights are part of the result."""
        return self.kind in ("fixed", "pretrained")

    @model_validator(mode="after")
    def _path_where_it_is_read(self) -> InitialisationSpec:
        if (self.path is not None) != (self.kind in ("pool", "pretrained")):
            need = "needs" if self.path is None else "takes no"
            raise ValueError(f"initialisation.kind: {self.kind} {need} initialisation.path")
        return self


class DonorSpec(Part):
    """A state of another run that this one goes on from, with values of its own."""

    checkpoint: str | None = Field(
        None,
        description="checkpoint whose state, step and best data the run takes over: RUN/checkpoints/step-..., a folder "
        "or URI; none begins anew",
    )
    step: Natural | None = Field(None, description="its outer step; filled in as a run is planned")
    content: str | None = Field(None, description="sha256 of what it holds; filled in as a run is planned")


class InnerSpec(Part):
    """The inner loop: gradient descent on synthesised batches."""

    lr: Positive = Field(0.02, description="inner learning rate that each step starts from")
    learn_lr: bool = Field(True, description="learn one rate for each step, through a softplus")
    jitter: Fraction = Field(
        0.0,
        description="span of a random factor around 1 on the rates while learning; flattens fixed starts",
    )
    momentum: Fraction = Field(0.0, description="inner momentum at the start; 0 is plain gradient descent")
    learn_momentum: bool = Field(False, description="learn the momentum, through a sigmoid")
    objective: str = Field(
        "cross_entropy", description="per-sample inner loss, or an entry point of raystill.objectives"
    )

    @model_validator(mode="after")
    def _momentum_starts_above_zero(self) -> InnerSpec:
        if self.learn_momentum and self.momentum == 0.0:
            raise ValueError("a learned momentum needs inner.momentum above 0 to start from (0.5 is usual)")
        return self


class OuterSpec(Part):
    """The outer loop: an optimiser over the meta-parameters."""

    steps: Count = Field(400, description="outer steps")
    members: Count = Field(4, description="initialisations averaged in each outer step")
    chunk: Count = Field(2, description="members of one work item; members/chunk items are shared by the evaluators")
    delay: Annotated[int, Field(ge=0, le=16)] = Field(
        0,
        description="updates made between a gradient's meta-parameters and its use; 1 hides every wait for the update",
    )
    staleness: Natural | None = Field(
        None,
        description="asynchronous: apply gradients as they come, if at most this many updates late; "
        "none is synchronous, and only that gives the same bits again",
    )
    shards: Count = Field(
        1, description="parameter servers that the meta-parameters are cut among; changes no bit (docs/scaling.md)"
    )
    batch_size: Count = Field(512, description="real images that judge one member")
    between: Count | None = Field(
        None, description="judge after each this many inner steps too, on real minibatches of their own; none does not"
    )
    between_weight: Positive = Field(0.3, description="weight of the mean of these judgements beside the last's 1")
    between_size: Count = Field(128, description="real images of each of these judgements")
    batch: Literal["per_member", "shared"] = Field(
        "per_member", description="real minibatch of each member's own, or one for all (Algorithm 1)"
    )
    objective: str = Field(
        "cross_entropy",
        description="per-sample outer loss, or an entry point of raystill.objectives; with a teacher kd, hinton, "
        "logit_matching",
    )
    teacher: Path | None = Field(
        None, description="network that the outer objective asks: a .safetensors of `raystill kd`, on every node"
    )
    teacher_content: str | None = Field(None, description="sha256 of the teacher's file; filled in as a run is planned")
    temperature: Positive = Field(4.0, description="T of the outer objective, where it has one (outer.teacher)")
    lr: Positive = Field(0.01, description="Adam's rate for images")
    label_lr: Positive = Field(0.01, description="Adam's rate for soft labels")
    rate_lr: Positive = Field(0.01, description="Adam's rate for inner learning rates and momentum")
    beta1: Fraction = Field(0.5, description="Adam's first-moment decay")
    beta2: Fraction = Field(0.999, description="Adam's second-moment decay")
    schedule: Literal["constant", "decay", "cosine"] = Field("cosine", description="course of the outer rates")
    cycles: Annotated[int, Field(ge=1, le=8)] = Field(
        1, description="cosines in a row, each twice as long as the one before (SGDR); good results come early and late"
    )
    warmup: Natural = Field(0, description="outer steps of linear warm-up")
    decay_every: Count = Field(100, description="steps between decays (schedule: decay)")
    decay_factor: Positive = Field(0.5, description="factor of each decay (schedule: decay)")
    final: Fraction = Field(0.02, description="share of the rate left at the end (schedule: cosine)")
    clip: Positive | None = Field(1.0, description="largest norm of the meta-gradient; none does not clip")
    clip_relative: Positive | None = Field(
        None, description="clip each chunk at this multiple of the usual norm of a chunk (unrolls spike); none does not"
    )
    rollbacks: Annotated[int, Field(ge=0, le=9)] = Field(
        0, description="times that a diverged run goes back, to learn on at half the rates from other draws; 0 stops it"
    )
    rollback_to: Count = Field(
        100, description="steps between the states that are kept to go back to; the older of the last two is taken"
    )
    diverged: Positive | None = Field(
        None, description="meta-loss above which a step has diverged; none calls only what is not finite so"
    )
    ema: Fraction = Field(0.0, description="decay of the running average that is validated and kept; 0 keeps the last")

    @model_validator(mode="after")
    def _chunks_divide_members(self) -> OuterSpec:
        if self.members % self.chunk:
            raise ValueError(f"outer.members ({self.members}) must be a multiple of outer.chunk ({self.chunk})")
        if self.delay and self.staleness is not None:
            raise ValueError("outer.delay is for synchronous runs and outer.staleness for asynchronous ones; give one")
        return self


class MetaSpec(Part):
    """How the meta-gradient is computed; none of it changes what is computed, but for truncation and precision."""

    sweep: Literal["auto", "reverse", "forward"] = Field(
        "auto", description="reverse-over-reverse or forward-over-reverse"
    )
    stack: Literal["auto", "loop", "vmap"] = Field("auto", description="members one after another, or batched by vmap")
    compile: Literal["auto", "never", "always"] = Field("auto", description="torch.compile of the one-step functions")
    window: Count | None = Field(None, description="differentiate through this many inner steps only")
    window_at: Literal["last", "random"] = Field("last", description="where the window lies (random: RaT-BPTT)")
    chunk: Count = Field(256, description="real images of one piece of the outer pass")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the outer pass's convolutions and products"
    )
    memory: Annotated[ByteSize, Field(gt=0)] | None = Field(
        None,
        description="most that an unroll keeps of its way forward (256MB); the rest is computed again, bit for bit",
    )
    trajectory: Literal["float32", "bfloat16"] = Field(
        "float32", description="of what is kept; bfloat16 takes half and rounds the gradient (docs/long-memory.md)"
    )
