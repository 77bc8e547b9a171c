"""Grid and halving: blocks of students as work items of the evaluators.

A block's address holds a digest of everything that its result depends on. A resumed search finds finished blocks in the
commit log by their addresses, and computes the rest.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel

from raystill.actors.drive.session import Session
from raystill.actors.messages import WorkItem
from raystill.actors.record import commit_log
from raystill.platform.evaluation.protocol import Split
from raystill.platform.seeds import Address
from raystill.platform.work.student_grid import GradeOptions, StudentsOptions, TeacherOptions
from raystill.search.temperature.settings import Setting, StudentScore, ranked
from raystill.search.temperature.spec import TemperatureSpec

Tell = Callable[[str], None]
"""Takes a line of progress."""


@dataclass(frozen=True)
class Students:
    """Trains students of one teacher on a session's evaluators.

    Attributes:
        teacher: the handle of `{"logits": [N, K]}` in the object store.
    """

    spec: TemperatureSpec
    session: Session
    teacher: Any

    def block(
        self, width: int, pairs: Sequence[tuple[float, float]], seeds: Sequence[int], steps: int,
        split: Split = "validation", stream: str = "student",
    ) -> WorkItem:  # fmt: skip
        """Students of one width as a work item: settings x seeds.

        Args:
            pairs: settings (T, alpha).
            split: whose images measure the accuracies.
            stream: of the students' random draws.
        """
        student, search = self.spec.student, self.spec.search
        training = student.training.model_copy(update={"steps": steps})
        options = StudentsOptions(
            self.spec.learner(width), training, tuple(pairs), tuple(seeds), search.stack, split, stream
        )
        return item("students", self.spec.run.seed, options)

    def numbers(self, items: Sequence[WorkItem], tell: Tell | None = None) -> list[dict[str, float]]:
        """The numbers of some items, in their order; what the commit log has is not computed again."""
        crew, log = self.session.crew, self.session.log
        log.flush()
        known = logged(self.session)
        missing = [i for i in items if i.address.stream not in known]
        for one in missing:
            crew.add(one, self.teacher)
        while missing:
            outcome = crew.first(missing).outcome
            missing.remove(outcome.item)
            log.flush()  # before the next one: a driver that is killed finds it again
            known[outcome.item.address.stream] = outcome.numbers
            done = len(items) - len(missing)
            if tell and done * 4 // len(items) > (done - 1) * 4 // len(items):
                tell(f"{done}/{len(items)} blocks")
        return [known[i.address.stream] for i in items]


def item(kind: str, seed: int, options: TeacherOptions | GradeOptions | StudentsOptions) -> WorkItem:
    """A work item whose address names all that its result depends on, beside the spec's data and teacher."""
    fields = [(k, v.model_dump_json() if isinstance(v, BaseModel) else v) for k, v in vars(options).items()]
    digest = hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:24]
    return WorkItem(kind, Address(seed, stream=f"{kind}/{digest}"), 0, "teacher", options)


def logged(session: Session) -> dict[str, dict[str, float]]:
    """Numbers of the items that the run's commit log holds, by the stream of their address."""
    rows = commit_log.read(session.folder / "commits").to_pylist()
    return {r["stream"]: dict(r["numbers"]) for r in rows if r["status"] == "ok" and "/" in r["stream"]}


def cut(pairs: Sequence[tuple[float, float]], most: int) -> list[list[tuple[float, float]]]:
    """Settings as blocks of at most `most`, of equal size (+-1)."""
    count = -(-len(pairs) // most)
    ends = np.linspace(0, len(pairs), count + 1).round().astype(int)
    return [list(pairs[a:b]) for a, b in itertools.pairwise(ends)]


def train(students: Students, settings: Iterable[Setting], steps: int, tell: Tell) -> list[StudentScore]:
    """Train students of some settings, each with every seed of the search.

    Args:
        steps: training steps of each student.
        tell: takes lines of progress.

    Returns:
        A row for each student, in the order of the settings, then of the seeds.
    """
    settings, seeds = list(settings), range(students.spec.search.seeds)
    blocks: list[tuple[int, int, list[tuple[float, float]]]] = []
    for width in dict.fromkeys(s.width for s in settings):
        pairs = [(s.temperature, s.alpha) for s in settings if s.width == width]
        blocks += [(width, seed, block) for block in cut(pairs, students.spec.search.block) for seed in seeds]
    items = [students.block(width, block, [seed], steps) for width, seed, block in blocks]
    rows = [
        StudentScore(width, *pair, seed, steps, numbers[f"0.{i}"])
        for (width, seed, block), numbers in zip(blocks, students.numbers(items, tell))
        for i, pair in enumerate(block)
    ]
    position = {setting: i for i, setting in enumerate(settings)}
    return sorted(rows, key=lambda row: (position[row.setting], row.seed))


def every(spec: TemperatureSpec) -> list[Setting]:
    """The whole grid."""
    return [Setting(w, t, a) for w in spec.widths for t in spec.search.temperatures for a in spec.search.alphas]


def grid(students: Students, tell: Tell) -> list[StudentScore]:
    """Every setting, trained to the end."""
    return train(students, every(students.spec), students.spec.student.training.steps, tell)


def halving(students: Students, tell: Tell) -> list[StudentScore]:
    """Successive halving (Jamieson & Talwalkar 2016, 1502.07943), synchronous, for each width by itself.

    Every rung is a whole short training, its schedule too: the first steps of a longer training say little while the
    learning rate is high.
    """
    spec, rows = students.spec, list[StudentScore]()
    settings = every(spec)
    for steps in spec.lengths:
        tell(f"{len(settings)} settings, {steps} steps each")
        rung = train(students, settings, steps, tell)
        rows += rung
        order = ranked(rung, steps)
        settings = [s for w in spec.widths for s in _best([s for s in order if s.width == w], spec.search.eta)]
    return rows


def _best(order: list[Setting], eta: int) -> list[Setting]:
    return order[: max(1, -(-len(order) // eta))]
