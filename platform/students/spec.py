"""The typed spec of `raystill kd`: networks, their data, and the stages of training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from raystill.platform.files.digests import digest
from raystill.platform.spec import DataSpec, LearnerSpec, TrackingSpec
from raystill.platform.spec.section import Count, Natural, Part, Positive
from raystill.platform.spec.section import plain_name as _plain
from raystill.platform.students.optimisers import OptimizerSpec

Settings = dict[str, Any]
Named = dict[str, Settings | None]


class TransferSpec(Part):
    """The data of students; teachers learn from all training data."""

    limit: Count | None = Field(None, description="training images of students, drawn for each seed; none is all")
    labels: Count | None = Field(None, description="images with labels, the others are unlabelled; none is all")
    without: tuple[Natural, ...] = Field((), description="classes left out of the students' data")
    distilled: Path | None = Field(None, description="artefact of `raystill distill` to learn from in place of images")
    distilled_content: str | None = Field(
        None, description="sha256 of the artefact's data; filled in as a run is planned"
    )


class TrainSpec(Part):
    """Length and batches of a training, where a stage does not set them."""

    epochs: Positive = Field(10.0, description="passes over the labelled images")
    steps: Count | None = Field(None, description="updates, in place of epochs")
    batch_size: Count = Field(64, description="labelled images of a step")
    ratio: Count = Field(3, description="unlabelled images of a step for each labelled one")


class StageSpec(Part):
    """One training."""

    network: Literal["student", "teacher"] | LearnerSpec = Field("student", description="the network to train")
    start: str | None = Field(None, description="earlier stage whose weights it starts from; none draws new ones")
    teacher: Named = Field({}, description="frozen, ensemble, virtual, own or ema, then noisy, tta, sharpened")
    objective: Named = Field({"cross_entropy": {}}, description="terms by name, with weight, only, kind, settings")
    augmentations: Named = Field({}, description="augmentations by name, in their order")
    data: Literal["transfer", "mixed", "images", "all"] = Field(
        "transfer",
        description="labelled images of transfer; with train.ratio unlabelled ones to each; all its images without "
        "labels; or all training data, as teachers",
    )
    outputs: Count | None = Field(None, description="width of embeddings; none takes the classes")
    only: tuple[str, ...] = Field((), description="module paths that learn; none is all of them")
    epochs: Positive | None = Field(None, description="in place of train.epochs")
    steps: Count | None = Field(None, description="in place of train.steps")
    lr: Positive | None = Field(None, description="in place of optimizer.lr")
    cached: bool | None = Field(None, description="compute the teacher's logits once; none: where nothing changes")

    @property
    def taught_by(self) -> tuple[str, ...]:
        """The earlier stages whose networks its teacher uses."""
        of = [(settings or {}).get("of", ()) for settings in self.teacher.values()]
        return tuple(name for names in of for name in ([names] if isinstance(names, str) else names))


class KdRunSpec(Part):
    """The run itself."""

    seed: Natural = Field(0, description="first seed; every other seed is an address under it")
    seeds: Count = Field(3, description="how many seeds, each with networks of its own")
    name: str | None = Field(None, description="run folder's name; none makes one of the recipe and a number")
    out: Path = Field(Path("runs"), description="folder of the run folders")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="device of all networks")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto is bfloat16 on a GPU")
    checkpoint_every: Natural = Field(500, description="steps between checkpoints; 0 writes none within a stage")

    @model_validator(mode="after")
    def _name_is_a_plain_name(self) -> KdRunSpec:
        _plain("run.name", self.name)
        return self


Alpha = Annotated[float, Field(ge=0.0, le=1.0)]


class KdSpec(Part):
    """One run of students."""

    recipe: str | None = Field(None, description="named recipe that this spec started from")
    data: DataSpec = DataSpec()
    transfer: TransferSpec = TransferSpec()
    student: LearnerSpec = LearnerSpec(name="mlp", width=16)
    teacher: LearnerSpec = LearnerSpec(name="mlp", width=256)
    temperature: Positive | None = Field(None, description="T of every kd and hinton; none takes the stage's own")
    alpha: Alpha | None = Field(None, description="the teacher's share in every hinton; none takes the stage's own")
    stages: dict[str, StageSpec] = Field(
        {"student": StageSpec()}, description="trainings in their order; the last one is the result"
    )
    baseline: dict[str, StageSpec] = Field(
        {}, description="stages without the method, to compare with; none: the same student on labels alone"
    )
    train: TrainSpec = TrainSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    run: KdRunSpec = KdRunSpec()
    tracking: TrackingSpec = TrackingSpec()

    @model_validator(mode="after")
    def _stages_name_earlier_ones(self) -> KdSpec:
        _plain("recipe", self.recipe)
        if not self.stages:
            raise ValueError("stages: needs at least one")
        seen: list[str] = []
        for field, stages in (("stages", self.stages), ("baseline", self.baseline)):
            for name, stage in stages.items():
                _plain(f"{field}: the name", name)
                for other in (*stage.taught_by, *([stage.start] if stage.start else [])):
                    if other not in seen:
                        known = f"earlier ones: {', '.join(seen)}" if seen else "there is none before it"
                        raise ValueError(f"{field}.{name}: no earlier stage {other!r}; {known}")
                if name in seen:
                    raise ValueError(f"baseline.{name}: a stage has that name")
                seen.append(name)
        return self

    @property
    def comparison(self) -> dict[str, StageSpec]:
        """The baseline: its stages, or the last stage's network on labels alone, for as many steps."""
        if self.baseline:
            return self.baseline
        last = list(self.stages.values())[-1]
        return {"baseline": StageSpec(network=last.network, epochs=last.epochs, steps=last.steps, lr=last.lr)}

    @property
    def identity(self) -> str:
        """sha256 of all fields that the bits of a result depend on."""
        aside: Any = {"run": True, "tracking": True, "recipe": True, "data": True, "transfer": {"distilled"}}
        method = self.model_dump(mode="json", exclude=aside)
        return digest({**method, "data": self.data.identity, "precision": self.run.precision})

    def dump(self) -> dict[str, Any]:
        """The spec as a JSON-able mapping, as it is saved."""
        return self.model_dump(mode="json")
