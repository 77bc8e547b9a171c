"""The teacher of a search: taken from a file, or trained on an evaluator; and its test accuracy."""

from __future__ import annotations

from raystill.actors.drive.session import Session
from raystill.platform.spec import LearnerSpec
from raystill.platform.work.student_grid import GradeOptions, TeacherOptions
from raystill.search.temperature import teacher_file
from raystill.search.temperature.on_evaluators import Students, Tell, item, logged
from raystill.search.temperature.spec import TemperatureSpec

FILE = "teacher.safetensors"


def load_or_train(spec: TemperatureSpec, session: Session, tell: Tell) -> Students:
    """Put the teacher's logits into the object store.

    The teacher comes from the run folder, from the file that the spec names, or is trained now; the run folder has it
    afterwards.
    """
    path, data, crew = session.folder / FILE, session.plan.data, session.crew
    if not path.exists() and spec.teacher.file is None:
        tell(f"teacher: {spec.teacher.learner.name}, {spec.teacher.training.steps} steps")
        options = TeacherOptions(spec.teacher.learner, spec.teacher.training, spec.teacher.smoothing)
        (done,) = crew.wait([crew.add(item("teacher", spec.run.seed, options), crew.executor.put({}))])
        arrays = crew.executor.server.fetch(done.arrays)
        teacher_file.write(path, arrays, spec.teacher.learner, done.outcome.numbers["accuracy"], data)
    elif not path.exists():
        assert spec.teacher.file is not None
        parts, facts = teacher_file.read(spec.teacher.file, data)
        teacher_file.write(path, parts, LearnerSpec.model_validate(facts["learner"]), facts["accuracy"], data)
    parts, facts = teacher_file.read(path, data)
    tell(f"teacher: {100 * facts['accuracy']:.2f} % of the validation split")
    return Students(spec, session, crew.executor.put({"logits": parts["logits"]}))


def facts_of(students: Students) -> dict[str, object]:
    """What a result has of the teacher: its learner, its accuracies in percent on the validation and test splits."""
    session, crew = students.session, students.session.crew
    parts, facts = teacher_file.read(session.folder / FILE, session.plan.data)
    learner = LearnerSpec.model_validate(facts["learner"])
    grade = item("grade", students.spec.run.seed, GradeOptions(learner, "test"))
    numbers = logged(session).get(grade.address.stream)
    if numbers is None:
        (done,) = crew.wait([crew.add(grade, crew.executor.put({"theta": parts["theta"]}))])
        session.log.flush()
        numbers = done.outcome.numbers
    return {"learner": learner.model_dump(mode="json"), "validation": 100 * facts["accuracy"],
            "test": 100 * numbers["accuracy"]}  # fmt: skip
