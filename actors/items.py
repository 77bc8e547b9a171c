"""The work items of a distillation: what each outer step and each snapshot asks of evaluators."""

from __future__ import annotations

from raystill.actors.messages import WorkItem
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec
from raystill.platform.work.meta_gradient import MetaGradientOptions, ValidateOptions


def gradient_item(spec: DistillSpec, address: Address, version: int) -> WorkItem:
    """A chunk of members, the first of which the address names, at the meta-parameters of an outer step."""
    return WorkItem("meta_gradient", address, version, "meta", MetaGradientOptions(spec.outer.chunk))


def gradient_items(spec: DistillSpec, attempt: int, step: int) -> list[WorkItem]:
    """A step's members in chunks whose size the spec fixes, whoever computes them.

    They work on the meta-parameters of `outer.delay` steps before, so that evaluators need not wait for an update that
    others are still computing. The spec fixes the delay, so the result does not depend on which evaluator is slow.
    """
    version = max(0, step - spec.outer.delay)
    return [
        gradient_item(spec, Address(spec.run.seed, attempt, step, first), version)
        for first in range(0, spec.outer.members, spec.outer.chunk)
    ]


def validation_item(address: Address) -> WorkItem:
    """One network trained on the snapshot of the address's step."""
    return WorkItem("validate", address, address.step, "snapshot", ValidateOptions())


def validation_items(spec: DistillSpec, version: int, attempt: int = 0) -> list[WorkItem]:
    """One item per network of a snapshot; a fixed start has one network."""
    networks = 1 if spec.initialisation.single else spec.validation.networks
    return [validation_item(Address(spec.run.seed, attempt, version, n)) for n in range(networks)]


ITEMS = {
    "meta_gradient": gradient_item,
    "validate": lambda spec, address, version: validation_item(address),
}
"""Kind -> the item of (spec, address, version), for `replay`."""
