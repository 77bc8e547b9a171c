"""An evaluator: one device, the data resident there, and nothing else that matters."""

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
    """Do an item; an exception of the work's own is an outcome, not a crash of the process."""
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        kind = registry.resolve("kinds", item.kind, KINDS, bench.plugins, "kind")
        numbers, arrays = kind(bench, item.address, item.options, inputs)
    except Exception as error:  # the coordinator decides: once more elsewhere, then it is the user's
        text = f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-4)}"
        return Outcome(item, "failed", number, time.perf_counter() - wall, time.process_time() - cpu, {}, text), {}
    finite = all(map(math.isfinite, numbers.values())) and all(np.isfinite(a).all() for a in arrays.values())
    status = "ok" if finite else "not finite"
    return Outcome(item, status, number, time.perf_counter() - wall, time.process_time() - cpu, numbers), arrays


class Evaluator:
    """Ray actor: builds its workbench from the spec once, then answers work items."""

    def __init__(self, number: int, spec: dict[str, Any], plugins: registry.Plugins | None) -> None:
        self.number = number
        self.bench = Workbench(DistillSpec.model_validate(spec), plugins)

    def ready(self) -> dict[str, Any]:
        """Who this is, where, and with which data: the executor checks it against what was planned with."""
        device = self.bench.spec.run.device
        return {"number": self.number, "data": self.bench.data.fingerprint, "device": device,
                **cluster.describe_process(device)}  # fmt: skip

    def run(self, item: WorkItem, cut: Cut | None, fault: str | None, *parts: Arrays) -> tuple[Outcome | Arrays, ...]:
        """One work item on a handle's parts; the outcome goes to the coordinator, the arrays stay in the object store.

        Returns:
            The outcome, and the arrays, cut as the inputs are: each shard pulls its part alone.
        """
        outcome, arrays = faults.inject(fault, lambda: compute(self.bench, self.number, item, join(cut, parts)))
        return outcome, *split(cut, arrays)
