"""The parts of a stage, built from its spec: network, examples, augmentation, teacher and objective."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from raystill.platform import learners
from raystill.platform.artifacts import DATA, load_distilled
from raystill.platform.data import DataSet, load
from raystill.platform.data.cut import draw
from raystill.platform.data.resident import Resident, resident
from raystill.platform.files.digests import file_digest
from raystill.platform.learners.initialise import initialise
from raystill.platform.objectives import Term
from raystill.platform.registry import Plugins
from raystill.platform.seeds import Address, fixed_global, numpy_rng, torch_rng
from raystill.platform.spec import LearnerSpec
from raystill.platform.students import teachers, terms
from raystill.platform.students.augmentations import Augmentation, Context
from raystill.platform.students.augmentations import make as make_augmentation
from raystill.platform.students.checkpoints import Checkpoints
from raystill.platform.students.examples import Examples, Some, distilled
from raystill.platform.students.features import see
from raystill.platform.students.loop import Log, Result, fit
from raystill.platform.students.spec import KdSpec, StageSpec, TransferSpec


def _known(transfer: TransferSpec) -> TransferSpec:
    """The section with the hash of its artefact.

    Raises:
        ValueError: the artefact can not be read, or is not the one that the run began with.
    """
    if transfer.distilled is None:
        return transfer
    content = file_digest(transfer.distilled / DATA)
    if transfer.distilled_content not in (None, content):
        raise ValueError(f"transfer.distilled: {transfer.distilled} is not the artefact that this run began with")
    return transfer.model_copy(update={"distilled_content": content})


@dataclass
class Bench:
    """The spec, its data and the device, shared by all stages."""

    spec: KdSpec
    plugins: Plugins | None = None
    data: DataSet = field(init=False)
    device: torch.device = field(init=False)

    def __post_init__(self) -> None:
        wish = self.spec.run.device
        if wish == "cuda" and not torch.cuda.is_available():
            raise ValueError("run.device: cuda, but this machine has no GPU that torch sees; valid here: cpu, auto")
        self.device = torch.device("cuda" if wish != "cpu" and torch.cuda.is_available() else "cpu")
        self.data = load(self.spec.data, self.plugins)
        sections = {"data": self.spec.data.known_by(self.data.fingerprint), "transfer": _known(self.spec.transfer)}
        self.spec = self.spec.model_copy(update=sections)
        self.rows = lru_cache(maxsize=4)(self._rows)

    @cached_property
    def train(self) -> Resident:
        """The training split on the device."""
        return resident(self.data.train, self.data, self.device)

    def split(self, name: str) -> Resident:
        """Another split on the device."""
        return resident(getattr(self.data, name), self.data, self.device)

    def _rows(self, address: Address) -> tuple[np.ndarray, np.ndarray]:
        """(labelled, unlabelled) rows of the training split that students learn from, for one seed."""
        transfer, y = self.spec.transfer, self.data.train.y
        rng = numpy_rng(address.at(stream="transfer"))
        rows = np.flatnonzero(~np.isin(y, transfer.without))
        present = len(np.unique(y[rows]))
        for name, count in (("limit", transfer.limit), ("labels", transfer.labels)):
            if count is not None and not present <= count <= len(rows):
                raise ValueError(
                    f"transfer.{name}: {count} is not between the {present} classes and {len(rows)} images"
                )
        if transfer.limit is not None:
            rows = rows[draw(y[rows], transfer.limit, rng)]
        if transfer.labels is None:
            return rows, rows[:0]
        known = rows[draw(y[rows], transfer.labels, rng)]
        return known, np.setdiff1d(rows, known)

    def examples(self, stage: StageSpec, address: Address) -> tuple[Examples, Examples | None]:
        """(labelled, unlabelled) examples of a stage.

        Raises:
            ValueError: no image is unlabelled and the stage needs some, or a distilled set of another shape.
        """
        if stage.data == "all":
            return self.train, None
        if self.spec.transfer.distilled is not None:
            return self.distilled, None
        known, others = self.rows(address)
        if stage.data == "images":
            return Some(self.train, np.sort(np.concatenate([known, others])), labels=False), None
        if stage.data == "mixed":
            if not len(others):
                raise ValueError("data: mixed needs unlabelled images, and all have their label; set transfer.labels")
            return Some(self.train, known), Some(self.train, others, labels=False)
        return Some(self.train, known), None

    @cached_property
    def distilled(self) -> Examples:
        """The distilled data set of the students.

        Raises:
            ValueError: it can not be loaded, or its images have another shape.
        """
        path = self.spec.transfer.distilled
        assert path is not None
        artefact = load_distilled(path, plugins=self.plugins)
        if artefact.images.shape[2:] != self.data.shape:
            raise ValueError(
                f"transfer.distilled: {path} has images of {artefact.images.shape[2:]}, the data of {self.data.shape}"
            )
        return distilled(artefact, self.device)

    def network(self, spec: LearnerSpec, outputs: int, address: Address) -> nn.Module:
        """A network with initial weights from an address, on the device.

        Raises:
            ValueError: an unknown name, or images too small for it.
        """
        make = learners.resolve(spec.name, self.plugins, "network")
        with fixed_global():
            module = make(self.data.shape, outputs, spec.width, spec.depth)
        theta = initialise(module, spec.init, spec.gain, torch_rng(address))
        nn.utils.vector_to_parameters(theta, module.parameters())
        return module.to(self.device)


@dataclass(frozen=True)
class Stage:
    """A stage with all its parts, ready to train."""

    bench: Bench
    name: str
    spec: StageSpec
    learner: LearnerSpec
    outputs: int
    student: nn.Module
    data: Examples
    unlabelled: Examples | None
    objective: Term
    teacher: teachers.Teacher | None
    augmentation: Augmentation | None
    address: Address

    @property
    def steps(self) -> int:
        """The number of updates."""
        train = self.bench.spec.train
        steps, epochs = self.spec.steps, self.spec.epochs
        if steps is None and epochs is None:
            steps, epochs = train.steps, train.epochs
        if steps is not None:
            return steps
        assert epochs is not None
        return max(1, math.ceil(epochs * len(self.data) / min(train.batch_size, len(self.data))))

    def train(self, checkpoint: Checkpoints | None = None, log: Log | None = None, dry: bool = False) -> Result:
        """Train the student, or only check that the parts fit together."""
        spec = self.bench.spec
        rates = {} if self.spec.lr is None else {"lr": self.spec.lr}
        return fit(
            self.student, self.data, self.objective, seed=self.address, steps=self.steps, teacher=self.teacher,
            augmentation=self.augmentation, optimizer=spec.optimizer.model_copy(update=rates),
            batch_size=spec.train.batch_size, unlabelled=self.unlabelled, ratio=spec.train.ratio,
            only=self.spec.only, cached=self.spec.cached,
            precision=spec.run.precision, checkpoint=checkpoint, log=log, log_every=max(1, self.steps // 40), dry=dry,
        )  # fmt: skip


def _learner(spec: KdSpec, stage: StageSpec) -> LearnerSpec:
    network = stage.network
    return network if isinstance(network, LearnerSpec) else {"student": spec.student, "teacher": spec.teacher}[network]


def shared(spec: KdSpec) -> dict[str, dict[str, Any]]:
    """The T and alpha that the spec sets for all stages, by objective."""
    given = {k: v for k in ("temperature", "alpha") if (v := getattr(spec, k)) is not None}
    return {"hinton": given, "kd": {k: v for k, v in given.items() if k != "alpha"}}


def prepare(bench: Bench, name: str, stage: StageSpec, networks: dict[str, nn.Module], seed: int) -> Stage:
    """Build the parts of a stage.

    Args:
        bench: the run's spec and data.
        name, stage: of the spec's stages.
        networks: of the earlier stages, by name.
        seed: of all random numbers; the last stage and the baseline's share initial weights and batches.

    Raises:
        ValueError: the stage is wrong; the message starts with its name.
    """
    spec = bench.spec
    ends = {list(spec.stages)[-1], list(spec.comparison)[-1]}
    address = Address(seed, stream="student" if name in ends else name)
    field_name = f"{'stages' if name in spec.stages else 'baseline'}.{name}"
    try:
        return _prepared(bench, name, stage, networks, address)
    except ValueError as error:
        raise ValueError(f"{field_name}: {error}") from error


def _prepared(bench: Bench, name: str, stage: StageSpec, networks: dict[str, nn.Module], address: Address) -> Stage:
    spec, classes = bench.spec, len(bench.data.classes)
    learner, outputs = _learner(spec, stage), stage.outputs or classes
    student = bench.network(learner, outputs, address.at(stream=f"{address.stream}/theta0"))
    if stage.start:
        have = student.state_dict()
        same = {k: v for k, v in networks[stage.start].state_dict().items() if k in have and have[k].shape == v.shape}
        if not same:
            raise ValueError(f"start: no weight of {stage.start!r} has the name and shape of one of this network")
        student.load_state_dict({**have, **same})
    data, unlabelled = bench.examples(stage, Address(address.seed))
    context = Context(classes, bench.train.mean, bench.train.std, student)
    settings = terms.Shared(shared(spec), spec.train.ratio if unlabelled is not None else 0, bench.plugins)
    bare = terms.objective(stage.objective, shared=settings)
    teacher_context = teachers.TeacherContext(
        student, networks, context, bare.facts.teacher_features, bench.data.shape, bench.plugins
    )
    teacher = teachers.teacher(stage.teacher, teacher_context)
    objective = bare
    if bare.facts.teacher_features and teacher is not None:
        x, y = data.batch(np.arange(1))
        objective = terms.objective(stage.objective, terms.mapper(
            lambda path: terms.one_feature(see(student, [path], "objective.student"), x, path),
            lambda path: terms.one_feature(lambda x: teacher(x, y, address), x, path),
            address.at(stream=f"{address.stream}/regressor"),
        ), settings)  # fmt: skip
    augmentation = make_augmentation(stage.augmentations, context)
    return Stage(
        bench, name, stage, learner, outputs, student, data, unlabelled, objective, teacher, augmentation, address
    )


def check(bench: Bench) -> None:
    """Build every stage and try it on a few samples, before anything is trained.

    Raises:
        ValueError: a stage is wrong; one line that starts with its field.
    """
    spec = bench.spec
    networks: dict[str, nn.Module] = {}
    kinds = {kind for stage in spec.stages.values() for kind in _kinds(stage.objective)}
    for key, objectives in (("temperature", {"kd", "hinton"}), ("alpha", {"hinton"})):
        if getattr(spec, key) is not None and not kinds & objectives:
            raise ValueError(f"{key}: no stage has {' or '.join(sorted(objectives))}, so it has no effect")
    for name, stage in {**spec.stages, **spec.comparison}.items():
        ready = prepare(bench, name, stage, networks, spec.run.seed)
        field_name = f"{'stages' if name in spec.stages else 'baseline'}.{name}"
        try:
            ready.train(dry=True)
        except ValueError as error:
            raise ValueError(f"{field_name}: {error}") from error
        networks[name] = ready.student
    if any(s.outputs for s in (list(spec.stages.values())[-1], list(spec.comparison.values())[-1])):
        raise ValueError("stages: the last one has outputs of its own; its accuracy can not be measured")


def _kinds(terms: Any) -> set[str]:
    kinds: set[str] = set()
    for name, settings in (terms or {}).items():
        settings = settings or {}
        kinds |= {settings.get("kind", name)} | (_kinds(settings["inner"]) if "inner" in settings else set())
    return kinds


@torch.no_grad()
def accuracy(model: nn.Module, data: Resident, chunk: int = 500) -> float:
    """Accuracy of a network on a split, in percent, by batches of `chunk` samples."""
    right = 0
    for start in range(0, len(data), chunk):
        x, y = data.batch(np.arange(start, min(start + chunk, len(data))))
        right += int((model(x).argmax(1) == y).sum())
    return 100 * right / len(data)
