"""The spec of a temperature search: teacher, students, settings, the method, and the run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from raystill.platform.spec import DataSpec, DistillSpec, LearnerSpec, RunSpec, TrackingSpec
from raystill.platform.spec.section import Count, Fraction, Part, Positive
from raystill.platform.work.student_grid import TrainingSpec

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class TeacherSpec(Part):
    """The teacher."""

    learner: LearnerSpec = LearnerSpec(name="mlp", width=256)
    training: TrainingSpec = TrainingSpec(steps=2000)
    smoothing: Fraction = Field(0.0, description="label smoothing of the teacher's training")
    file: Path | None = Field(None, description="teacher.safetensors of an earlier search, in place of a new teacher")


class StudentSpec(Part):
    """The students."""

    learner: LearnerSpec = LearnerSpec(name="mlp", width=16)
    training: TrainingSpec = TrainingSpec()
    widths: tuple[Count, ...] = Field(
        (), description="student widths, each with a search of its own; none takes the learner's"
    )


class SearchSpec(Part):
    """The settings, and the method."""

    method: Literal["grid", "halving", "tpe", "asha"] = Field(
        "halving",
        description="grid and halving (synchronous, the same choice from any number of evaluators and after kills); "
        "tpe (Optuna) and asha, by Ray Tune, one trial a setting",
    )
    temperatures: tuple[Positive, ...] = Field(
        (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 20.0),
        min_length=1, description="T of the grid; tpe and asha draw log-uniformly between the least and the greatest",
    )  # fmt: skip
    alphas: tuple[Share, ...] = Field(
        (0.1, 0.3, 0.5, 0.7, 0.9, 1.0),
        min_length=1, description="the teacher's share of the loss; tpe and asha draw between least and greatest",
    )  # fmt: skip
    seeds: Count = Field(3, description="students of each setting; each seed has its own start and batches")
    block: Count = Field(16, description="settings that are trained together, as one work item")
    stack: Literal["vmap", "loop"] = Field(
        "vmap", description="train the students of a block all at once, or one by one"
    )
    eta: Annotated[int, Field(ge=2)] = Field(
        3, description="halving, asha: one setting in so many goes on, for so many times the steps"
    )
    rungs: Annotated[int, Field(ge=1, le=6)] = Field(
        3, description="halving, asha: lengths of training, of which the last is the whole"
    )
    trials: Count = Field(24, description="tpe, asha: settings to try")
    assess: Count = Field(5, description="fresh students of the choice, and of labels alone, to test once")


class TemperatureSpec(Part):
    """Everything about one search for T and alpha."""

    recipe: str | None = Field(None, description="named recipe that this spec started from")
    data: DataSpec = DataSpec()
    teacher: TeacherSpec = TeacherSpec()
    student: StudentSpec = StudentSpec()
    search: SearchSpec = SearchSpec()
    run: RunSpec = RunSpec()
    tracking: TrackingSpec = TrackingSpec()

    @model_validator(mode="after")
    def _fits_together(self) -> TemperatureSpec:
        search, own = self.search, DistillSpec(recipe=self.recipe)  # which checks the name
        assert own
        for name in ("temperatures", "alphas"):
            values = getattr(search, name)
            if len(set(values)) < len(values):
                raise ValueError(f"search.{name}: the same value twice")
        if len(set(self.student.widths)) < len(self.student.widths):
            raise ValueError("student.widths: the same value twice")
        if search.method in ("tpe", "asha") and len(self.student.widths) > 1:
            raise ValueError(f"student.widths: {search.method} searches one width; take grid or halving, or one width")
        if min(self.lengths) < 1:
            raise ValueError(
                f"search.rungs: {search.rungs} rungs of eta {search.eta} start below one step of "
                f"student.training.steps ({self.student.training.steps}); take fewer"
            )
        return self

    @property
    def lengths(self) -> tuple[int, ...]:
        """Steps of each rung, the last is the whole training."""
        steps, s = self.student.training.steps, self.search
        return tuple(steps // s.eta**k for k in reversed(range(s.rungs)))

    def learner(self, width: int) -> LearnerSpec:
        """The learner of a student width; 0 stands for that of `student.learner`."""
        return self.student.learner.model_copy(update={"width": width}) if width else self.student.learner

    @property
    def widths(self) -> tuple[int, ...]:
        """Student widths; (0,) where the spec names none."""
        return self.student.widths or (0,)

    def host_spec(self) -> DistillSpec:
        """The spec that evaluators are built from: data, device and seed; nothing is distilled."""
        return DistillSpec(
            recipe=self.recipe, data=self.data, learner=self.teacher.learner, run=self.run, tracking=self.tracking
        )

    def dump(self) -> dict[str, object]:
        """Plain JSON-able mapping, the form in which specs are saved."""
        return self.model_dump(mode="json")
