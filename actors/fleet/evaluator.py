"""An evaluator: one device with the data resident on it, and no other state that matters."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np

from raystill.actors import cluster, faults
from raystill.actors.messages import Arrays, Outcome, WorkItem
from raystill.actors.server.shards import join, split
from raystill.platform import registry
from raystill.platform.outer.blocks import Cut
from raystill.platform.spec import DistillSpec
from raystill.platform.work.kinds import KINDS
from raystill.platform.work.workbench import Workbench


def compute(bench: Workbench, number: int, item: WorkItem, inputs: Mapping[str, np.ndarray]) -> tuple[Outcome, Arrays]:
    """Compute an item.

    Args:
        number: of the evaluator, for the outcome.
        inputs: whole arrays.

    Returns:
        The outcome and the arrays. An exception of the work is an outcome with the status `failed`, without arrays.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        kind = registry.resolve("kinds", item.kind, KINDS, bench.plugins, "kind")
        numbers, arrays = kind(bench, item.address, item.options, inputs)
    except Exception as error:  # the crew decides: it tries once more elsewhere, then stops with the error
        text = f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-4)}"
        return Outcome(item, "failed", number, time.perf_counter() - wall, time.process_time() - cpu, {}, text), {}
    finite = all(map(math.isfinite, numbers.values())) and all(np.isfinite(a).all() for a in arrays.values())
    status = "ok" if finite else "not finite"
    return Outcome(item, status, number, time.perf_counter() - wall, time.process_time() - cpu, numbers), arrays


class Evaluator:
    """Ray actor: builds its workbench from the spec once, then computes items."""

    def __init__(self, number: int, spec: dict[str, Any], plugins: registry.Plugins | None) -> None:
        self.number = number
        self.bench = Workbench(DistillSpec.model_validate(spec), plugins)

    def ready(self) -> dict[str, Any]:
        """Facts of this process: its number, node, device, versions, and the fingerprint of the data that it loaded."""
        device = self.bench.spec.run.device
        return {"number": self.number, "data": self.bench.data.fingerprint, "device": device,
                **cluster.describe_process(device)}  # fmt: skip

    def run(self, item: WorkItem, cut: Cut | None, fault: str | None, *parts: Arrays) -> tuple[Outcome | Arrays, ...]:
        """Compute an item on a handle's parts.

        Args:
            cut: how the inputs are cut into `parts`; None where there is one part of whole arrays.
            fault: kind of fault to inject; see `faults`.

        Returns:
            The outcome, which goes to the driver, and the arrays, cut as the inputs are. They stay in the object
            store, where each shard reads its own part.
        """
        outcome, arrays = faults.inject(fault, lambda: compute(self.bench, self.number, item, join(cut, parts)))
        return outcome, *split(cut, arrays)
