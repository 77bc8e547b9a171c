"""Where one parameter server saturates, and what more of them would buy: a discrete-event model of the outer loop.

    python benchmarks/simulate_scale.py                 # the tables of docs/scaling.md, from the measured inputs
    python benchmarks/simulate_scale.py --json          # every case, one JSON line
    python benchmarks/simulate_scale.py --measure       # measure the inputs again (minutes; 16 GB of memory)

Inputs are measured on one machine (benchmarks/results/scale-inputs.json); the network is an assumption, `--network`.
The model follows actors/coordinator.py: a step's items go out one by one, the driver takes answers one by one, the
apply is submitted when the last is in, the server pulls every chunk, applies them in order and hands out the next
meta-parameters, for which the items of the step `delay` + 1 later wait. See docs/scaling.md for what is left out.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

INPUTS = Path(__file__).parent / "results" / "scale-inputs.json"
EVALUATORS = (1, 4, 16, 64, 256, 1024, 4096)
SIZES = (0.3, 4.0, 40.0, 400.0)
MEMBER_SECONDS = (0.1, 1.0, 10.0)


@dataclass(frozen=True)
class Costs:
    """Seconds of the parts of a step that depend on the size of the meta-parameters.

    Attributes:
        latency: of a call, one way.
        submit, answer: of the driver, for an item that it hands out and for an answer that it takes.
        wait: of the driver, for each item in flight, each time that it waits for an answer.
        put: of a process that lays arrays of this size into its object store.
        fixed, each: of an apply, for its optimiser step and for each chunk.
        wire: of arrays of this size through one network port.
    """

    latency: float
    submit: float
    answer: float
    wait: float
    put: float
    fixed: float
    each: float
    wire: float


@dataclass(frozen=True)
class System:
    """What is simulated; one item per evaluator and step unless `items` says otherwise.

    Attributes:
        servers: actors among which the meta-parameters are split by position, each with a port of its own.
        fan_in: partial sums that a node of an aggregation tree takes; 0 has no tree.
        per_node: evaluators that share a network port and an object store.
    """

    evaluators: int
    member_seconds: float
    costs: Costs
    delay: int = 0
    items: int | None = None
    servers: int = 1
    fan_in: int = 0
    per_node: int = 8


class Simulated(NamedTuple):
    """Seconds of a step in the steady state, and the shares of it that evaluators and the driver are at work."""

    step_seconds: float
    evaluators_busy: float
    driver_busy: float


def update_seconds(system: System) -> tuple[float, float, float]:
    """(receive, apply, hand out): the server's part of a step, once all items are done.

    A server pulls what it lacks through one port, and no node sends faster than through its own. A tree sums in the
    nodes first, in memory, then `fan_in` at a time, in float64, which is twice as large on the wire.
    """
    c, k = system.costs, system.servers
    chunks = system.items or system.evaluators
    nodes = math.ceil(system.evaluators / system.per_node)
    share = min(chunks, system.per_node)  # of the chunks lies on one node
    exchange = 2 * c.latency if k > 1 else 0.0  # shards tell each other the norms that clipping needs
    if not system.fan_in:
        receive = max(chunks / k, share) * c.wire
        hand_out = c.put / k + max(nodes / k, 1) * c.wire
        return receive, c.fixed / k + chunks * c.each / k + exchange, hand_out
    f, left, receive, work = system.fan_in, math.ceil(chunks / share), 0.0, share * c.each
    while left > 1:
        wide = min(f, left)
        receive += 2 * wide * c.wire / k + c.latency
        work += wide * c.each / k
        left = math.ceil(left / f)
    depth = max(1, math.ceil(math.log(nodes, f))) if nodes > 1 else 1
    return receive, work + c.fixed / k + exchange, c.put / k + depth * min(f, nodes) * c.wire / k


def simulate(system: System, steps: int = 8, warm: int = 3) -> Simulated:
    """Run the loop for `warm` + `steps` outer steps, event by event."""
    c, items = system.costs, system.items or system.evaluators
    events: list[tuple[float, int, Callable[[float], None]]] = []
    order = itertools.count()
    queue: deque[int] = deque()  # steps of items that evaluators can take, oldest first
    idle, in_flight, driver, driver_busy = system.evaluators, 0, 0.0, 0.0
    answered = [0] * (warm + steps + system.delay + 2)
    at_hand = set(range(system.delay + 1))  # steps whose meta-parameters are at the evaluators
    ends: list[float] = []
    receive, apply, hand_out = update_seconds(system)

    def at(time: float, action: Callable[[float], None]) -> None:
        heapq.heappush(events, (time, next(order), action))

    def drive(time: float, seconds: float) -> float:
        nonlocal driver, driver_busy
        driver = max(driver, time) + seconds
        driver_busy += seconds
        return driver

    def ask(time: float, step: int) -> None:
        for _ in range(items):
            at(drive(time, c.submit) + c.latency, lambda now: reach(now, step))

    def reach(now: float, step: int) -> None:
        nonlocal in_flight
        in_flight += 1
        queue.append(step)
        take(now)

    def take(now: float) -> None:
        nonlocal idle
        while idle and queue and queue[0] in at_hand:
            step = queue.popleft()
            idle -= 1
            at(now + system.member_seconds + c.put, lambda then, step=step: done(then, step))

    def done(now: float, step: int) -> None:
        nonlocal idle, in_flight
        idle += 1
        handled = drive(now + c.latency, c.answer + c.wait * in_flight)
        in_flight -= 1
        answered[step] += 1
        if answered[step] == items and (step == 0 or len(ends) == step):
            update(handled, step)
        take(now)

    def update(now: float, step: int) -> None:
        """Submit the apply; the driver hands out a later step's items meanwhile, then waits until it is applied."""
        nonlocal driver
        applied = now + c.latency + receive + apply
        ends.append(applied)
        later = step + 1 + system.delay
        at(applied + hand_out, lambda then: hand(then, later))
        ask(now, later)
        driver = max(driver, applied + c.latency)
        if answered[step + 1] == items:  # evaluators were faster than the server
            update(driver, step + 1)

    def hand(now: float, step: int) -> None:
        at_hand.add(step)
        take(now)

    for step in range(system.delay + 1):
        ask(0.0, step)
    while len(ends) < warm + steps:
        time, _, action = heapq.heappop(events)
        action(time)
    seconds = (ends[warm + steps - 1] - ends[warm - 1]) / steps
    busy = items * system.member_seconds / (system.evaluators * seconds)
    return Simulated(seconds, busy, min(1.0, driver_busy / ends[-1]))


def costs(inputs: dict[str, Any], megabytes: float, network: float, drained: bool = False) -> Costs:
    """The costs at a size, between the sizes that were measured.

    Args:
        network: bytes a second through one port.
        drained: whether the driver takes all answers that are there at once, rather than wait anew for each.
    """
    sizes = [row["megabytes"] for row in inputs["apply"]]

    def at(part: str, key: str) -> float:
        return float(np.interp(megabytes, sizes, [row[key] for row in inputs[part]]))

    wire = max(megabytes * 1e6 / network, at("transfer", "between_nodes_s") if megabytes <= 40 else 0.0)
    return Costs(
        inputs["latency_s"], inputs["submit_s"], inputs["answer_s"], 0.0 if drained else inputs["wait_per_item_s"],
        at("transfer", "put_s"), at("apply", "fixed_s"), at("apply", "each_s"), wire,
    )  # fmt: skip


def half_speed(system: System) -> int:
    """The number of evaluators, a power of two, from which on they wait for more than half of their time."""
    for exponent in range(13):
        if simulate(replace(system, evaluators=2**exponent), steps=3, warm=1).evaluators_busy < 0.5:
            return 2**exponent
    return 2**13


DESIGNS: dict[str, dict[str, int]] = {
    "one server": {}, "4 shards": {"servers": 4}, "16 shards": {"servers": 16}, "tree of 8": {"fan_in": 8},
}  # fmt: skip
