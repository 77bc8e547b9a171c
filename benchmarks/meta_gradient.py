"""The engine against a plain autograd unroll: time per member, memory per inner step, exactness; one run, one thread.

    python benchmarks/meta_gradient.py --json [--quick] [--device cuda] [--compile]

LeNet, T = 3 and 30 inner steps of 10 images, 1,024 real images that judge each member. The plain unroll is what one
writes with torch alone (its modules, `functional_call`): it keeps all graphs and is differentiated by one
`autograd.grad`. It gets the identical outer pass (the product's, in the same pieces and layout), allocator settings and
thread. `unroll_same_operations` has the product's learner in its inner steps as well: what is left is the engine's own
cost. On a CPU the unit is CPU seconds, on CUDA seconds between synchronisations. Times are medians of interleaved
rounds, and a ratio is the median of the rounds' ratios.

Images are seeded patterns with noise: nothing here but the outer loss depends on what is in them. Memory, and variants
that may fail or take long (compiled, captured), are measured in processes of their own with a deadline; what fails is
reported as {"error": ...} in its place.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import platform as machine
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raystill.platform import learners, meta, seeds
from raystill.platform.spec import LearnerSpec
from raystill.platform.work import allocator

SEED, SHAPE, CLASSES, IMAGES, CHUNK = 0, (1, 28, 28), 10, 10, 256
RATE = 0.01  # of the inner loop: small enough that T = 30 steps are not chaotic
BUDGET = 420.0  # seconds for all child processes together
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Problem:
    """Losses (`torch_mean`: of torch's own modules); theta0[J, P]; x[T, M, ...], y[T, M], lr[T]; real x[J, N, ...]."""

    mean: Loss
    total: Loss
    torch_mean: Loss
    theta0: Tensor
    x: Tensor
    y: Tensor
    lr: Tensor
    real_x: Tensor
    real_y: Tensor

    def steps(self) -> meta.Steps:
        """The inner steps as the engine takes them."""
        return meta.Steps(self.x, self.y, {"lr": self.lr})

    def outer_loss(self, j: int) -> Any:
        """The outer pass of one member."""
        return meta.outer_loss(self.total, self.real_x[j], self.real_y[j], CHUNK)


def problem(steps: int, members: int, real: int, device: str, dtype: torch.dtype = torch.float32) -> Problem:
    """A seeded problem; the same numbers on any device and in either precision."""
    learner = learners.build(LearnerSpec(name="lenet"), SHAPE, CLASSES)
    learner.module.to(device)
    stock = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, CLASSES),
    ).to(device)  # fmt: skip
    names, shapes = zip(*((name, part.shape) for name, part in stock.named_parameters()))
    sizes = [shape.numel() for shape in shapes]

    def torch_apply(theta: Tensor, x: Tensor) -> Tensor:
        parts = {n: t.view(s) for n, t, s in zip(names, theta.split(sizes), shapes)}
        return torch.func.functional_call(stock, parts, (x,))

    rng = seeds.torch_rng(seeds.Address(SEED, stream="benchmark"))
    patterns = F.avg_pool2d(torch.randn(CLASSES, *SHAPE, generator=rng), 5, 1, 2) * 5

    def images(y: Tensor) -> Tensor:
        return patterns[y] + 0.7 * torch.randn(*y.shape, *SHAPE, generator=rng)

    def cross_entropy(apply: Callable[[Tensor, Tensor], Tensor], reduction: str) -> Loss:
        return lambda theta, x, y: F.cross_entropy(apply(theta, x), y, reduction=reduction)

    def place(z: Tensor) -> Tensor:
        return z.to(device, dtype if z.is_floating_point() else None)

    theta0 = torch.stack([learner.init(seeds.Address(SEED, member=j)) for j in range(members)])
    y = torch.arange(IMAGES).remainder(CLASSES).expand(steps, -1)
    real_y = torch.randint(CLASSES, (members, real), generator=rng)
    return Problem(
        cross_entropy(learner.apply, "mean"), cross_entropy(learner.apply, "sum"), cross_entropy(torch_apply, "mean"),
        place(theta0), place(images(y)), place(y), place(torch.full((steps,), RATE)), place(images(real_y)),
        place(real_y),
    )  # fmt: skip


Variant = Callable[[Problem], tuple[Tensor, Tensor]]
"""A problem to the meta-gradient (d/dx, d/dlr) of its members' summed losses."""


def unroll(p: Problem, mean: Loss | None = None) -> tuple[Tensor, Tensor]:
    """The oracle and the yardstick: one graph of all steps of torch's own modules, differentiated once."""
    mean = mean or p.torch_mean
    sums = torch.zeros_like(p.x), torch.zeros_like(p.lr)
    for j, theta in enumerate(p.theta0):
        theta, x, lr = (z.detach().requires_grad_() for z in (theta, p.x, p.lr))
        end = theta
        for x_t, y_t, lr_t in zip(x.unbind(), p.y, lr.unbind()):
            (g,) = torch.autograd.grad(mean(end, x_t, y_t), end, create_graph=True)
            end = end - lr_t * g
        _, push = p.outer_loss(j)(end.detach())
        for total, part in zip(sums, torch.autograd.grad(end, (x, lr), push)):
            total += part
    return sums


def looped(mode: str = "reverse", keep: int = meta.GRAPH_BYTES) -> Variant:
    """The engine, one member after another; the defaults are the product's."""
    engines: dict[Loss, meta.Engine] = {}

    def run(p: Problem) -> tuple[Tensor, Tensor]:
        engine = engines.setdefault(p.mean, meta.make_engine(p.mean, mode, "loop", keep))
        parts = [
            meta.unroll(engine, t, p.steps(), [(len(p.x), p.outer_loss(j))], to_theta0=False).steps
            for j, t in enumerate(p.theta0)
        ]
        return sum((s.x for s in parts), torch.zeros_like(p.x)), sum(
            (s.hyper["lr"] for s in parts), torch.zeros_like(p.lr)
        )

    return run


def stacked(mode: str, wrap: Callable[[Any], Any] | None = None) -> Variant:
    """The engine, all members at once; `wrap` compiles or captures its one-step functions."""
    engines: dict[Loss, meta.Engine] = {}

    def run(p: Problem) -> tuple[Tensor, Tensor]:
        engine = engines.setdefault(p.mean, meta.make_engine(p.mean, mode, "vmap", wrap=wrap))
        outer_loss = meta.stacked_outer_loss(p.total, p.real_x, p.real_y, CHUNK)
        out = meta.unroll(engine, p.theta0, p.steps(), [(len(p.x), outer_loss)], to_theta0=False).steps
        return out.x.sum(0), out.hyper["lr"].sum(0)

    return run


def captured(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors as a CUDA graph: recorded at the first call, replayed on copied inputs afterwards."""
    held: dict[Any, tuple[Any, list[Tensor], Any]] = {}

    def many(out: Any, change: Callable[[Tensor], Tensor]) -> Any:
        return tuple(map(change, out)) if isinstance(out, tuple) else change(out)

    def run(*args: Tensor) -> Any:
        key = tuple((a.shape, a.dtype) for a in args)
        if key not in held:
            static = [a.detach().clone() for a in args]
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(3):  # libraries choose algorithms and allocate workspaces before, not in, the recording
                    function(*static)
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out = function(*static)
            held[key] = graph, static, out
        graph, static, out = held[key]
        for place, value in zip(static, args):
            place.copy_(value)
        graph.replay()
        return many(out, torch.clone)

    return run


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compile`, once for each size of the stack."""
    return torch.compile(function, dynamic=False)


WRAPS: dict[str, Callable[[Any], Any] | None] = {
    "vmap": None,
    "graph": captured,
    "compiled": compiled,
    "compiled_graph": lambda function: captured(compiled(function)),
}
LOOPED: dict[str, Variant] = {
    "unroll": unroll,
    "unroll_same_operations": lambda p: unroll(p, p.mean),
    "engine": looped(),
    "reverse_rebuilt": looped(keep=0),
    "forward": looped("forward"),
}


def seconds(run: Callable[[], Any], device: str) -> float:
    """CPU seconds of one call, or wall seconds to the end of the device's work."""
    if device == "cpu":
        began = time.process_time()
        run()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def attempt(run: Callable[[], Any]) -> Any:
    """What a measurement finds, or {"error": ...} in its place."""
    try:
        return run()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def contest(variants: dict[str, Variant], p: Problem, rounds: int, device: str) -> dict[str, Any]:
    """Seconds per member of each variant in each round, or its error; every round starts with another variant."""
    times: dict[str, Any] = {}
    for name, run in variants.items():
        first = attempt(lambda run=run: run(p))
        times[name] = first if isinstance(first, dict) else []
    names = [name for name in variants if isinstance(times[name], list)]
    for r in range(rounds):
        for i in range(len(names)):
            name = names[(i + r) % len(names)]
            times[name].append(seconds(lambda run=variants[name]: run(p), device) / len(p.theta0))
    return times


def median_ratio(a: Any, b: Any) -> float | None:
    """Median over rounds of a's time over b's; none where either failed."""
    if isinstance(a, dict) or isinstance(b, dict):
        return None
    return round(statistics.median(x / y for x, y in zip(a, b)), 4)


def relative_errors(
    variants: dict[str, Variant], steps: int, dtype: torch.dtype, device: str, real: int
) -> dict[str, Any]:
    """|g - g*| / |g*| against float64 `unroll`; of images and of rates, the larger."""
    oracle = unroll(problem(steps, 2, real, device, torch.float64))
    p = problem(steps, 2, real, device, dtype)

    def error(run: Variant) -> float:
        found = [((got.double() - want).norm() / want.norm()).item() for got, want in zip(run(p), oracle)]
        return max(e if math.isfinite(e) else math.inf for e in found)

    return {name: attempt(lambda run=run: error(run)) for name, run in variants.items()}


# --- measured in processes of their own


def _status(key: str) -> float:
    """A line of /proc/self/status in bytes; ru_maxrss where there is no /proc."""
    with contextlib.suppress(OSError), open("/proc/self/status") as lines:
        return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(key))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def peak(name: str, steps: int, real: int, device: str) -> dict[str, Any]:
    """Peak memory of one unroll above what was there before it."""
    p = problem(steps, 1, real, device)
    if device == "cuda":
        LOOPED[name](problem(1, 1, real, device))  # libraries' workspaces
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)  # what making the problem left free would hide what the unroll takes
        before = _status("VmRSS")
    LOOPED[name](p)
    return {"bytes": (torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")) - before}


def throughput(kind: str, mode: str, counts: Sequence[int], steps: int, real: int, device: str) -> dict[str, Any]:
    """Members per second of a stacked variant for several stacks, and the outer pass's share."""

    def one(members: int) -> dict[str, Any]:
        p = problem(steps, members, real, device)
        run = stacked(mode, WRAPS[kind])
        began = time.perf_counter()
        run(p)
        first = time.perf_counter() - began
        taken = statistics.median(seconds(lambda: run(p), device) for _ in range(3))
        outer_loss = meta.stacked_outer_loss(p.total, p.real_x, p.real_y, CHUNK)
        outer = statistics.median(seconds(lambda: outer_loss(p.theta0), device) for _ in range(3))
        return {
            "members_per_second": members / taken,
            "seconds_per_member": taken / members,
            "outer_share": outer / taken,
            "first_call_seconds": first,
        }

    found: dict[str, Any] = {}
    for members in counts:
        found[str(members)] = attempt(lambda members=members: one(members))
        print(json.dumps(found), flush=True)  # a deadline loses only what was not yet done
    return found


CHILDREN: dict[str, Callable[..., dict[str, Any]]] = {"peak": peak, "throughput": throughput}


def child(deadline: float, task: str, *args: Any) -> dict[str, Any]:
    """A measurement in a process of its own: its last line, or what went wrong."""
    left = deadline - time.monotonic()
    if left < 5:
        return {"error": "no time left"}
    command = [sys.executable, __file__, "--child", json.dumps([task, *args])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=left)
        out, problem = done.stdout, done.stderr.strip()[-300:] if done.returncode else ""
    except subprocess.TimeoutExpired as expired:
        text = expired.stdout or b""
        out, problem = text.decode() if isinstance(text, bytes) else text, f"stopped after {left:.0f} s"
    lines = out.strip().splitlines()
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return {**found, "error": problem} if problem else found


def memory(deadline: float, real: int, device: str, few: int, many: int) -> dict[str, Any]:
    """Slope of the peak, in MB (10^6 bytes) per inner step, of the engine and of the plain unroll."""
    found: dict[str, Any] = {"peak_mb": {}}
    for name, suffix in (("engine", ""), ("unroll", "_unroll")):
        peaks = {t: child(deadline, "peak", name, t, real, device) for t in (few, many)}
        found["peak_mb"][name] = {t: round(p["bytes"] / 1e6, 1) if "bytes" in p else p for t, p in peaks.items()}
        slope = None
        if all("bytes" in p for p in peaks.values()):
            slope = round((peaks[many]["bytes"] - peaks[few]["bytes"]) / 1e6 / (many - few), 4)
        found[f"memory_mb_per_inner_step{suffix}"] = slope
    return found


def stacks(options: argparse.Namespace, deadline: float, real: int) -> dict[str, Any]:
    """Members per second of vmapped, captured and compiled one-step functions; each kind with its share of the time."""
    cuda = options.device == "cuda"
    kinds = ["vmap"] + ["graph"] * cuda + ["compiled"] * options.compile + ["compiled_graph"] * cuda
    # what matters most first: a deadline may cut the rest
    counts = options.members or ([64, 16, 256, 1] if cuda else [4 if options.quick else 16])
    plan = [(kind, mode) for kind in kinds for mode in ("reverse", "forward")]
    found: dict[str, Any] = {kind: {} for kind in kinds}
    for i, (kind, mode) in enumerate(plan):
        now = time.monotonic()
        share = now + (deadline - now) / (len(plan) - i) * (1.0 if i == len(plan) - 1 else 1.5)
        found[kind][mode] = child(share, "throughput", kind, mode, counts, 30, real, options.device)
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    began = time.monotonic()
    deadline, device = began + BUDGET, options.device
    real, rounds = (256, 3) if options.quick else (1024, options.rounds)
    found: dict[str, Any] = {
        "benchmark": "meta_gradient", "command": " ".join(["python", "benchmarks/meta_gradient.py", *sys.argv[1:]]),
        "device": torch.cuda.get_device_name() if device == "cuda" else machine.processor() or machine.machine(),
        "torch": torch.__version__, "python": machine.python_version(),
        "seed": SEED, "inner_rate": RATE, "threads": torch.get_num_threads(),
        "images_per_step": IMAGES, "real_images": real, "chunk": CHUNK, "keep_bytes": meta.GRAPH_BYTES,
        "unit": "CPU seconds" if device == "cpu" else "seconds", "rounds": rounds, "quick": options.quick,
    }  # fmt: skip
    found |= memory(deadline, real, device, *((100, 300) if options.quick else (100, 1000)))

    per_member: dict[str, Any] = {}
    for steps in (3, 30):
        p = problem(steps, 1, real, device)
        found["parameters"] = p.theta0.shape[1]
        times = contest(LOOPED, p, rounds * (4 if steps == 3 else 1), device)
        per_member[f"T={steps}"] = {
            name: t if isinstance(t, dict) else round(statistics.median(t), 5) for name, t in times.items()
        }
        for other in ("unroll", "unroll_same_operations"):
            key = f"{'cpu' if device == 'cpu' else 'time'}_ratio_to_{other}{'_t3' if steps == 3 else ''}"
            found[key] = median_ratio(times["engine"], times[other])
    found["cpu_seconds_per_member" if device == "cpu" else "seconds_per_member"] = per_member

    checked = {**LOOPED, "vmap_reverse": stacked("reverse"), "vmap_forward": stacked("forward")}
    checked64 = {name: run for name, run in checked.items() if name != "unroll"}
    if device == "cuda":  # TF32 or not, the comparison is of float32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for dtype, runs in ((torch.float32, checked), (torch.float64, checked64)):
        name = str(dtype).removeprefix("torch.")
        errors = {f"T={steps}": relative_errors(runs, steps, dtype, device, real) for steps in (3, 30)}
        found[f"gradient_errors_{name}"] = errors
        found[f"gradient_error_{name}"] = max(e for of in errors.values() for e in of.values() if isinstance(e, float))

    found["stacked"] = stacks(options, deadline, real)
    found["wall_seconds"] = round(time.monotonic() - began, 1)
    return found


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON line and nothing else on stdout")
    parser.add_argument("--quick", action="store_true", help="smaller: for CI, not for figures")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true", help="compiled variants too (minutes); always on CUDA")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved repetitions")
    parser.add_argument("--members", type=int, nargs="*", help="sizes of the stacks")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device")
    options.compile |= options.device == "cuda"
    torch.set_num_threads(1)
    allocator.keep_freed_memory()
    if options.child:
        task, *args = json.loads(options.child)
        print(json.dumps(CHILDREN[task](*args)))
        return
    found = measure(options)
    print(json.dumps(found) if options.json else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
