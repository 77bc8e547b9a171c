"""Where one parameter server saturates, and what more of them would buy: a discrete-event model of the outer loop.

    python benchmarks/simulate_scale.py                 # the tables of docs/results/one-server.md, in seconds
    python benchmarks/simulate_scale.py --json          # every case, one JSON line
    python benchmarks/simulate_scale.py --measure       # measure the inputs anew first (3 minutes, 12 GB of memory)

Inputs are measured by scale_inputs.py beside this file; the network's speed is an assumption, `--network`.
The model follows actors/drive/coordinator.py: items go out one by one, the driver takes answers one by one, the
apply is submitted when the last is in, the server pulls every chunk, applies them in order and hands out the next
meta-parameters, for which the items of the step `delay` + 1 later wait.
See docs/results/one-server.md for what is left out.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import subprocess
import sys
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
        look: of the driver, for each evaluator that it looks at, once for each answer.
        pull: of a pull from another node's object store, however small.
        put: of a process that lays arrays of this size into its object store.
        fixed, each: of an apply, for its optimiser step and for each chunk.
        wire: of arrays of this size through one network port.
    """

    latency: float
    submit: float
    answer: float
    look: float
    pull: float
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
    # shards tell each other, twice and by way of the driver, the sums of squares that clipping needs
    exchange = 4 * c.latency + c.pull if k > 1 else 0.0
    if not system.fan_in:
        receive = c.pull + max(chunks / k, share) * c.wire
        hand_out = c.put / k + c.pull + max(nodes / k, 1) * c.wire
        return receive, c.fixed / k + chunks * c.each / k + exchange, hand_out
    f, left, receive, work = system.fan_in, math.ceil(chunks / share), 0.0, share * c.each
    while True:  # the last sum is the server's own
        wide = min(f, left)
        receive += c.pull + max(wide / k, 1) * 2 * c.wire
        work += wide * c.each / k
        left = math.ceil(left / f)
        if left == 1:
            break
    depth = max(1, math.ceil(math.log(nodes, f)))
    hand_out = c.put / k + depth * (c.pull + max(min(f, nodes) / k, 1) * c.wire)
    return receive, work + c.fixed / k + exchange, hand_out


def simulate(system: System, steps: int = 8, warm: int = 3) -> Simulated:
    """Run the loop for `warm` + `steps` outer steps, event by event."""
    c, items = system.costs, system.items or system.evaluators
    events: list[tuple[float, int, Callable[[float], None]]] = []
    order = itertools.count()
    queue: deque[int] = deque()  # steps of items that evaluators can take, oldest first
    idle, driver, driver_busy = system.evaluators, 0.0, 0.0
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
        queue.append(step)
        take(now)

    def take(now: float) -> None:
        nonlocal idle
        while idle and queue and queue[0] in at_hand:
            step = queue.popleft()
            idle -= 1
            at(now + system.member_seconds + c.put, lambda then, step=step: done(then, step))

    def done(now: float, step: int) -> None:
        nonlocal idle
        idle += 1
        handled = drive(now + c.latency, c.answer + c.look * system.evaluators)
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


def costs(inputs: dict[str, Any], megabytes: float, network: float) -> Costs:
    """The costs at a size, between the sizes that were measured; `network` is bytes a second through one port."""
    sizes = [row["megabytes"] for row in inputs["apply"]]

    def at(part: str, key: str) -> float:
        return float(np.interp(megabytes, sizes, [row[key] for row in inputs[part]]))

    return Costs(
        inputs["latency_s"], inputs["submit_s"], inputs["answer_s"] + inputs["driver"]["base_s"],
        inputs["driver"]["per_evaluator_s"], min(inputs["between_nodes_s"].values()), at("transfer", "put_s"),
        at("apply", "fixed_s"), at("apply", "each_s"), megabytes * 1e6 / network,
    )  # fmt: skip


def server_bytes(inputs: dict[str, Any], megabytes: float, chunks: int) -> float:
    """Memory that an apply takes at one server: the chunks as they came, and what is made of them."""
    need = inputs["apply_memory"]
    return megabytes * 1e6 * (chunks * (1 + need["each_sizes"]) + need["fixed_sizes"])


DESIGNS: dict[str, dict[str, int]] = {
    "1 shard": {},
    "4 shards": {"servers": 4},
    "16 shards": {"servers": 16},
    "tree of 8": {"fan_in": 8},
    "tree of 8, 4 shards": {"fan_in": 8, "servers": 4},
}
"""What is simulated, as changes of a System; trees are not built."""


def cases(inputs: dict[str, Any], network: float, designs: list[str]) -> list[dict[str, Any]]:
    """Every size, member time, number of evaluators, delay and design."""
    rows = []
    for size, seconds, delay, design in itertools.product(SIZES, MEMBER_SECONDS, (0, 1), designs):
        parts = costs(inputs, size, network)
        for n in EVALUATORS:
            found = simulate(replace(System(n, seconds, parts, delay), **DESIGNS[design]), steps=4, warm=2)
            rows.append({
                "megabytes": size, "member_seconds": seconds, "delay": delay, "design": design, "evaluators": n,
                **found._asdict(), "members_per_second": n / found.step_seconds,
            })  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Share of their time that evaluators compute, in percent: a line for each case, a column for each number."""
    head = ["design", "MB", "member s", "delay", *(str(n) for n in EVALUATORS)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for _, group in itertools.groupby(rows, lambda r: (r["design"], r["megabytes"], r["member_seconds"], r["delay"])):
        of = list(group)
        shares = [f"{100 * row['evaluators_busy']:.0f}" for row in of]
        keys = [of[0]["design"], *(f"{of[0][k]:g}" for k in ("megabytes", "member_seconds", "delay"))]
        lines.append("| " + " | ".join([*keys, *shares]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables, or one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", type=float, default=1.25e9, help="bytes a second of one port; assumed, 10 Gbit/s")
    parser.add_argument("--design", choices=DESIGNS, action="append", help="only these; may be given more than once")
    parser.add_argument("--measure", action="store_true", help="measure the inputs anew, before anything else")
    parser.add_argument("--json", action="store_true", help="one JSON line on standard output, nothing else")
    args = parser.parse_args()
    if args.measure:
        # a process of its own: Ray's workers find what a script defines, not what a module beside one does
        subprocess.run(
            [sys.executable, str(Path(__file__).with_name("scale_inputs.py"))], check=True, stdout=sys.stderr
        )
    inputs = json.loads(INPUTS.read_text())
    rows = cases(inputs, args.network, args.design or list(DESIGNS))
    if args.json:
        memory = [{"megabytes": s, "evaluators": n, "bytes": server_bytes(inputs, s, n)}
                  for s in SIZES for n in EVALUATORS]  # fmt: skip
        print(json.dumps({"network": args.network, "inputs": inputs, "cases": rows, "memory": memory}))
        return
    print(table([row for row in rows if row["design"] == "1 shard" or args.design]))
    if not args.design:
        print("\n" + table([row for row in rows if row["megabytes"] == 40 and row["member_seconds"] >= 1]))


if __name__ == "__main__":
    main()
