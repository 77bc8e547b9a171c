"""Grid and halving: blocks of students as work items of the evaluators, finished ones taken from the commit log.

A block's address holds a digest of everything that its result depends on, so a killed search finds what it has by
asking the log for the same addresses, and computes the rest.
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

from raystill.actors.drive import commit_log
from raystill.actors.drive.session import Session
from raystill.actors.messages import WorkItem
from raystill.platform.evaluation.protocol import Split
from raystill.platform.seeds import Address
from raystill.platform.work.student_grid import GradeOptions, StudentsOptions, TeacherOptions
from raystill.search.temperature.settings import Row, Setting, ranked
from raystill.search.temperature.spec import TemperatureSpec

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Hunt:
    """A search at work.

    Attributes:
        session: its evaluators compute.
        teacher: the handle of `{"logits": [N, K]}`, put once.
    """

    spec: TemperatureSpec
    session: Session
    teacher: Any

    def block(
        self, width: int, pairs: Sequence[tuple[float, float]], seeds: Sequence[int], steps: int,
        split: Split = "validation", stream: str = "student",
    ) -> WorkItem:  # fmt: skip
        """Students of one width as a work item: settings (T, alpha) x seeds."""
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
        found = finished(self.session)
        missing = [i for i in items if i.address.stream not in found]
        for one in missing:
            crew.add(one, self.teacher)
        while missing:
            outcome = crew.first(missing).outcome
            missing.remove(outcome.item)
            log.flush()  # a killed driver has it
            found[outcome.item.address.stream] = outcome.numbers
            done = len(items) - len(missing)
            if tell and done * 4 // len(items) > (done - 1) * 4 // len(items):
                tell(f"{done}/{len(items)} blocks")
        return [found[i.address.stream] for i in items]


def item(kind: str, seed: int, options: TeacherOptions | GradeOptions | StudentsOptions) -> WorkItem:
    """A work item whose address names all that its result depends on, beside the spec's data and teacher."""
    told = [(k, v.model_dump_json() if isinstance(v, BaseModel) else v) for k, v in vars(options).items()]
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]
    return WorkItem(kind, Address(seed, stream=f"{kind}/{digest}"), 0, "teacher", options)


def finished(session: Session) -> dict[str, dict[str, float]]:
    """Numbers of the items that the run's commit log holds, by the stream of their address."""
    rows = commit_log.read(session.folder / "commits").to_pylist()
    return {r["stream"]: dict(r["numbers"]) for r in rows if r["status"] == "ok" and "/" in r["stream"]}


def cut(pairs: Sequence[tuple[float, float]], most: int) -> list[list[tuple[float, float]]]:
    """Settings as blocks of at most `most`, of equal size (+-1)."""
    count = -(-len(pairs) // most)
    ends = np.linspace(0, len(pairs), count + 1).round().astype(int)
    return [list(pairs[a:b]) for a, b in itertools.pairwise(ends)]


def trained(hunt: Hunt, settings: Iterable[Setting], steps: int, tell: Tell) -> list[Row]:
    """Students of some settings, each with every seed, `steps` steps long."""
    settings, seeds = list(settings), range(hunt.spec.search.seeds)
    plan: list[tuple[int, int, list[tuple[float, float]]]] = []
    for width in dict.fromkeys(s.width for s in settings):
        pairs = [(s.temperature, s.alpha) for s in settings if s.width == width]
        plan += [(width, seed, block) for block in cut(pairs, hunt.spec.search.block) for seed in seeds]
    found = hunt.numbers([hunt.block(width, block, [seed], steps) for width, seed, block in plan], tell)
    rows = [
        Row(width, *pair, seed, steps, numbers[f"0.{i}"])
        for (width, seed, block), numbers in zip(plan, found)
        for i, pair in enumerate(block)
    ]
    place = {setting: i for i, setting in enumerate(settings)}
    return sorted(rows, key=lambda row: (place[row.setting], row.seed))


def every(spec: TemperatureSpec) -> list[Setting]:
    """The whole grid."""
    return [Setting(w, t, a) for w in spec.widths for t in spec.search.temperatures for a in spec.search.alphas]


def grid(hunt: Hunt, tell: Tell) -> list[Row]:
    """Every setting, trained to the end."""
    return trained(hunt, every(hunt.spec), hunt.spec.student.training.steps, tell)


def halving(hunt: Hunt, tell: Tell) -> list[Row]:
    """Successive halving (Jamieson & Talwalkar 2016, 1502.07943), synchronous, for each width by itself.

    Every rung is a whole short training, its schedule too: a longer training's first steps say little while the rate is
    high.
    """
    spec, rows = hunt.spec, list[Row]()
    settings = every(spec)
    for steps in spec.lengths:
        tell(f"{len(settings)} settings, {steps} steps each")
        new = trained(hunt, settings, steps, tell)
        rows += new
        order = ranked(new, steps)
        settings = [s for w in spec.widths for s in _best([s for s in order if s.width == w], spec.search.eta)]
    return rows


def _best(order: list[Setting], eta: int) -> list[Setting]:
    return order[: max(1, -(-len(order) // eta))]
