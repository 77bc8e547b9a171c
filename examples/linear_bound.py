"""One step on M learned examples teaches a linear model of D weights from any start if M >= D (1811.10959)."""

import math
import sys

import torch
from matplotlib.figure import Figure

from raystill.platform import meta, seeds

N, D, STARTS = 40, 8, 16
g = seeds.torch_rng(seeds.Address(0))


def normal(*shape):
    """Seeded numbers in double precision."""
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def total(theta, x, y):
    """Sum of squared errors of a linear model, halved."""
    return (x @ theta - y).square().sum() / 2


d, t = normal(N, D), normal(N)
best = torch.linalg.lstsq(d, t[:, None]).solution[:, 0]
starts = normal(STARTS, D)
engine = meta.make_engine(lambda theta, x, y: total(theta, x, y) / len(x), stack="vmap")
outer_loss = meta.stacked_outer_loss(total, d.expand(STARTS, N, D), t.expand(STARTS, N), chunk=N)


def loss(x, y, rate):
    """Real loss of each start after one step on the examples."""
    steps = meta.Steps(x[None], y[None], {"lr": torch.as_tensor(rate, dtype=torch.float64).reshape(1)})
    return meta.unrolled_loss(engine, starts, steps, [(1, outer_loss)])


def excess(losses):
    """Above the least-squares solution's; below 1e-16 two losses can not be told apart."""
    return (losses.detach() - total(best, d, t) / N).clamp(min=1e-16)


def construction(m):
    """The paper's d = N I, t = N theta*, and zeros beyond the D-th row; short of it, as many rows as there are."""
    x = torch.zeros(m, D, dtype=torch.float64)
    x[: min(m, D)] = N * torch.eye(D, dtype=torch.float64)[:m]
    return x, x @ best, m / N**2


def learned(m):
    """Examples learned by L-BFGS from noise through the engine, rate 1."""
    x, y = (normal(m, D) * math.sqrt(m / D)).requires_grad_(), normal(m).requires_grad_()
    search = torch.optim.LBFGS(
        [x, y], max_iter=60, tolerance_grad=1e-14, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        search.zero_grad()
        mean = loss(x, y, 1.0).mean()
        mean.backward()
        return mean

    search.step(closure)
    return x.detach(), y.detach(), 1.0


counts = [2, 4, D - 2, D - 1, D, D + 1, D + 3]
curves = {"the theorem's construction": construction, "learned from noise": learned}
axes = (figure := Figure(figsize=(7, 3.6), layout="constrained")).subplots()
for (name, make), marker in zip(curves.items(), "os"):
    found = {m: float(excess(loss(*make(m))).mean()) for m in counts}
    axes.semilogy(counts, list(found.values()), marker=marker, label=name)
    print(f"{name}: excess {found[D - 1]:.2g} at M = D - 1, {found[D]:.2g} at M = D")
axes.axvline(D, color="grey", linestyle=":")
axes.annotate("M = D", (D, 1e-3), xytext=(4, 0), textcoords="offset points", color="grey")
axes.set(xlabel=f"distilled examples M (D = {D} weights)", ylabel="mean excess loss after one step", xticks=counts)
axes.set_title(f"One gradient step from {STARTS} random starts", fontsize=10)
axes.legend(frameon=False)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "linear-bound.png", dpi=110)
