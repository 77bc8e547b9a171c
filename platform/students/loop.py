"""The training loop of every student: augmentation, teacher and objective over batches, with optional checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from raystill.platform.artifacts.distilled import Distilled
from raystill.platform.data.order import Order
from raystill.platform.data.resident import Resident
from raystill.platform.objectives import Objective, Out, Step, Term, term
from raystill.platform.objectives.labels import has_label
from raystill.platform.seeds import Address, global_at
from raystill.platform.students.augmentations import Augmentation, Batch
from raystill.platform.students.checkpoints import Checkpoints, pack, plain_moments, unpack
from raystill.platform.students.examples import Examples, examples
from raystill.platform.students.features import changed, module_at, see
from raystill.platform.students.optimisers import OptimizerSpec, factor, optimiser
from raystill.platform.students.teachers import Teacher

Row = dict[str, float]
Log = Callable[[int, Row], None]
_CHUNK = 256  # samples of a batch while the teacher's logits are cached


@dataclass(frozen=True)
class Result:
    """A trained student.

    Attributes:
        student: the given module, in evaluation mode.
        history: rows of step, loss and each term's mean.
        cached: whether the teacher's logits were computed once.
        seconds: of wall time, since the last resumption.
    """

    student: nn.Module
    history: list[Row]
    cached: bool
    seconds: float

    def __repr__(self) -> str:
        from raystill.platform.students import notebook  # it imports PIL, which training does not need

        return notebook.summary(self.student, self.history, self.seconds)

    def _repr_html_(self) -> str:
        from raystill.platform.students import notebook

        return notebook.html(self.student, self.history, self.cached, self.seconds)


def uncached_because(objective: Term, teacher: Teacher | None, augmentation: Augmentation | None) -> str:
    """Why a teacher's logits can not be computed once for all steps; "" where they can."""
    facts = objective.facts
    if teacher is None or not facts.teacher:
        return "the objective uses no teacher"
    if facts.inputs:
        return "the objective differentiates the teacher's answers with respect to x"
    if augmentation is not None and augmentation.changes:
        return f"the augmentation {augmentation.changes}"
    if facts.teacher_features:
        return f"the objective compares features ({', '.join(facts.teacher_features)})"
    return f"the teacher's answers change: {teacher.changes}" if teacher.changes else ""


@dataclass(eq=False)
class _Fitting:
    """The parts of one training; `state` is the objective's and changes at each step."""

    student: nn.Module
    objective: Term
    teacher: Teacher | None
    augmentation: Augmentation | None
    parts: list[Examples]
    seed: Address
    device: torch.device
    state: dict[str, Tensor] = field(default_factory=dict)
    logits: list[Tensor] | None = None
    precision: torch.dtype | None = None

    def __post_init__(self) -> None:
        self.answers = see(self.student, self.objective.facts.student_features, "objective.student")

    def teach(self, x: Tensor, y: Tensor, at: Address) -> Out | None:
        """The teacher's answers, without a gradient; None where the objective uses none."""
        if self.teacher is None or not self.objective.facts.teacher:
            return None
        with torch.no_grad():
            return self.teacher(x, y, at)

    def compare(self, step: int, rows: list[Any], progress: float) -> Step:
        """The objective's input: the answers of student and teacher to the batch of `rows`."""
        drawn = [part.batch(index) for part, index in zip(self.parts, rows)]
        x, y = (torch.cat([d[i].to(self.device) for d in drawn]) for i in range(2))
        at, batch = self.seed.at(step=step, stream=f"{self.seed.stream}/view"), Batch(x, y)
        if self.augmentation:
            batch = self.augmentation(batch, at)
        teacher_at = self.seed.at(step=step, stream=f"{self.seed.stream}/teacher")
        if self.logits is not None:
            out: Out | None = Out(torch.cat([cached[torch.from_numpy(r)] for cached, r in zip(self.logits, rows)]))
        else:
            out = self.teach(batch.x if batch.teacher_x is None else batch.teacher_x, batch.y, teacher_at)
        if self.augmentation and self.augmentation.blend:
            if out is None:
                raise ValueError("augmentations: one of them mixes in the teacher's answers, and there is no teacher")
            batch, out = self.augmentation.blend(batch, out, at.at(stream=f"{at.stream}/blend"))

        def outputs(x: Tensor) -> tuple[Out, Out | None]:
            teacher = self.teacher if self.objective.facts.teacher else None
            return self.answers(x), teacher(x, batch.y, teacher_at) if teacher else None

        with changed(self.student, batch.layers) if batch.layers else nullcontext():
            answer = self.answers(batch.x)
        others = tuple(self.answers(v) for v in batch.views)
        both = outputs if self.objective.facts.inputs else None
        return Step(batch.x, batch.y, answer, out, others, {}, self.state, progress, both)

    def cache(self) -> None:
        """Compute the teacher's logits once for every sample, on the device."""
        self.logits = []
        for part in self.parts:
            pieces = []
            for start in range(0, len(part), _CHUNK):
                index = torch.arange(start, min(start + _CHUNK, len(part))).numpy()
                x, y = (t.to(self.device) for t in part.batch(index))
                batch = self.augmentation(Batch(x, y), self.seed) if self.augmentation else Batch(x, y)
                out = self.teach(batch.x if batch.teacher_x is None else batch.teacher_x, batch.y, self.seed)
                assert out is not None
                pieces.append(out.logits)
            self.logits.append(torch.cat(pieces))

    def rehearse(self) -> None:
        """Run the objective on a few samples, to check before training that its parts fit together.

        Raises:
            ValueError: as objective, teacher or augmentation.
        """
        mode = self.student.training
        self.student.eval()
        try:
            with global_at(self.seed), torch.no_grad() if not self.objective.facts.inputs else nullcontext():
                rows = [torch.arange(min(3, len(part))).numpy() for part in self.parts]
                step = self.compare(0, rows, 0.0)
                if self.objective.facts.labels and not has_label(step.y).all():
                    raise ValueError(
                        "objective: reads labels, and some samples have none; give each of its terms that reads labels "
                        "`only: labelled`"
                    )
                self.objective(step)
        finally:
            self.student.train(mode)

    def modules(self) -> dict[str, nn.Module]:
        """The modules that a checkpoint stores."""
        modules = {"student": self.student, "objective": self.objective.module}
        if self.teacher is not None and self.teacher.update:
            modules["teacher"] = self.teacher.module
        return {name: module for name, module in modules.items() if module is not None}


@contextmanager
def _learning(student: nn.Module, only: Sequence[str]) -> Iterator[list[nn.Parameter]]:
    """The parameters to train; all others need no gradient within the block.

    Raises:
        ValueError: a path that does not exist, or nothing to train.
    """
    chosen = {id(p) for path in only for p in module_at(student, path, "only").parameters()}
    before = {p: p.requires_grad for p in student.parameters()}
    if only:
        for p in before:
            p.requires_grad_(id(p) in chosen)
    try:
        learning = [p for p in student.parameters() if p.requires_grad]
        if not learning:
            raise ValueError("only: these parts of the student have no parameters to train")
        yield learning
    finally:
        for p, needed in before.items():
            p.requires_grad_(needed)


def fit(
    student: nn.Module,
    data: Examples | Resident | Distilled | tuple[Tensor, Tensor],
    objective: Objective,
    *,
    seed: Address,
    steps: int,
    teacher: Teacher | None = None,
    augmentation: Augmentation | None = None,
    optimizer: OptimizerSpec | None = None,
    batch_size: int = 64,
    unlabelled: Examples | None = None,
    ratio: int = 1,
    only: Sequence[str] = (),
    cached: bool | None = None,
    precision: str = "auto",
    checkpoint: Checkpoints | None = None,
    log: Log | None = None,
    log_every: int = 50,
    dry: bool = False,
) -> Result:
    """Train a student in place.

    Args:
        student: a module with logits (B, K), on its device; training starts from its weights.
        data: real data on a device, (x, y), a distilled artefact, or `Examples`.
        objective: per-sample losses; their mean over the batch is minimised.
        seed: address of all random numbers: order, augmentation, noise, dropout.
        steps: updates.
        teacher: needed where the objective compares with one.
        augmentation: changes each batch; None changes nothing.
        optimizer: name and settings; None takes the defaults.
        batch_size: labelled samples of a step, at most all of them.
        unlabelled: further samples of each batch, `ratio` for each labelled one; their labels are ignored.
        only: module paths whose parameters learn; empty for all. Parameters without a gradient do not change: a hint
            trains the layers below it.
        cached: compute the teacher's logits once; None does so where the result is the same.
        precision: float32, bfloat16 (autocast), or auto: bfloat16 on a GPU.
        checkpoint: written, and resumed from; the result has the same bits as without interruption.
        log: called with (step, row) every `log_every` steps and after the last.
        dry: check that the parts fit together, without training.

    Raises:
        ValueError: parts do not fit together, or another training has locked `checkpoint`.
        FloatingPointError: the loss is not finite.
    """
    began, whole = time.monotonic(), term(objective)
    device = next(student.parameters()).device
    if steps < 1 or batch_size < 1 or ratio < 1:
        raise ValueError(f"steps ({steps}), batch_size ({batch_size}) and ratio ({ratio}) must be at least 1")
    labelled = examples(data)
    parts = [labelled] if unlabelled is None else [labelled, unlabelled]
    size = min(batch_size, len(labelled))
    at = seed.stream
    orders = [Order(len(labelled), size, seed.at(stream=f"{at}/order"))]
    if unlabelled is not None:
        orders.append(Order(len(unlabelled), size * ratio, seed.at(stream=f"{at}/order unlabelled")))
    for module in (whole.module, teacher.module if teacher else None):
        if module is not None:
            module.to(device)
    state = {k: v.to(device) for k, v in whole.start(seed.at(stream=f"{at}/state")).items()}
    fitting = _Fitting(student, whole, teacher, augmentation, parts, seed, device, state)
    reason = uncached_because(whole, teacher, augmentation)
    if cached and reason:
        raise ValueError(f"cached: the teacher's logits can not be computed once: {reason}")
    if whole.facts.teacher and teacher is None:
        raise ValueError("teacher: the objective needs a teacher, and none was given")
    spec = optimizer or OptimizerSpec()
    make = optimiser(spec)
    with _learning(student, only) as learning:
        fitting.rehearse()
        if dry:
            return Result(student, [], not reason, 0.0)
        if cached is not False and not reason:
            fitting.cache()
        if precision == "bfloat16" or (precision == "auto" and device.type == "cuda"):
            fitting.precision = torch.bfloat16
        weights = [*learning, *(whole.module.parameters() if whole.module else ())]
        with checkpoint.locked() if checkpoint else nullcontext():
            history = _train(fitting, make(weights), weights, spec, orders, steps, checkpoint, log, log_every)
    student.eval()
    return Result(student, history, fitting.logits is not None, time.monotonic() - began)


def _train(
    fitting: _Fitting, optimizer: torch.optim.Optimizer, weights: list[nn.Parameter], spec: OptimizerSpec,
    orders: list[Order], steps: int, checkpoint: Checkpoints | None, log: Log | None, every: int,
) -> list[Row]:  # fmt: skip
    done, history = 0, []
    newest = checkpoint.newest() if checkpoint else None
    if newest:
        state = unpack(*newest, fitting.modules(), optimizer)
        fitting.state = {k: v.to(fitting.device) for k, v in state.items()}
        done, history = newest[1]["step"], newest[1]["history"]
    fitting.student.train()
    while done < steps:
        for group in optimizer.param_groups:
            group["lr"] = spec.lr * factor(spec, done, steps)
        loss, terms = _update(fitting, optimizer, weights, spec, [o.rows(done) for o in orders], done, done / steps)
        done += 1
        if done % every == 0 or done == steps:
            history.append(_row(done, loss, terms))
            if log:
                log(done, history[-1])
        if checkpoint and checkpoint.every and done % checkpoint.every == 0 and done < steps:
            facts = {"history": history, "optimizer": plain_moments(optimizer)}
            checkpoint.write(done, pack(fitting.modules(), optimizer, fitting.state), facts)
    return history


def _update(
    fitting: _Fitting, optimizer: torch.optim.Optimizer, weights: list[nn.Parameter], spec: OptimizerSpec,
    rows: list[Any], done: int, progress: float,
) -> tuple[Tensor, Mapping[str, Tensor]]:  # fmt: skip
    """Update the student, the objective's state, and a teacher that follows the student."""
    dropout = fitting.seed.at(step=done, stream=f"{fitting.seed.stream}/network")
    kind, dtype = fitting.device.type, fitting.precision
    with global_at(dropout), torch.autocast(kind, dtype) if dtype else nullcontext():
        step = fitting.compare(done, rows, progress)
        losses, terms = fitting.objective.report(step)
        loss = losses.mean()
    optimizer.zero_grad(set_to_none=True)  # parameters without a gradient keep None, so that no decay changes them
    loss.backward()
    if spec.clip:
        nn.utils.clip_grad_norm_(weights, spec.clip)
    optimizer.step()
    fitting.state = {k: v.detach() for k, v in fitting.objective.advance(step).items()}
    if fitting.teacher and fitting.teacher.update:
        fitting.teacher.update(fitting.student, done + 1)
    return loss, terms


def _row(step: int, loss: Tensor, terms: Mapping[str, Tensor]) -> Row:
    value = loss.item()
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss of step {step} is {value}; try a lower optimizer.lr or optimizer.clip")
    return {"step": step, "loss": value, **{name: float(t.detach().mean()) for name, t in terms.items()}}
