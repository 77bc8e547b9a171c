"""Pictures of architectures, as matplotlib figures. As a program it writes those of the documentation:

python -m raystill.platform.architectures.pictures docs/images
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from raystill.platform.architectures.spaces import Arch

COLOURS = {"conv": "#1f6fb4", "asym": "#6a51a3", "max": "#d9730d", "avg": "#2a8f5a", "pool": "#2a8f5a"}
PLAIN, INK, PAPER = "#8a8a8a", "#222222", "#f4f4f2"
WORDS = {"none": "no norm", "group": "group norm", "relu": "ReLU", "tanh": "tanh", "gap": "mean of pixels"}


def _colour(op: str) -> str:
    return next((colour for start, colour in COLOURS.items() if op.startswith(start)), PLAIN)


def _canvas(width: float, title: str, *heights: float) -> tuple[Figure, list[Axes]]:
    """A figure with a row of each height in inches, as wide as asked."""
    from matplotlib.figure import Figure  # slow to import, and evaluators draw no pictures

    figure = Figure(
        figsize=(width, sum(heights) + 0.3 * (1 + title.count("\n"))), layout="constrained", facecolor="white"
    )
    figure.suptitle(title, fontsize=9, family="monospace", color=INK)
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    axes = [figure.add_subplot(grid[i]) for i in range(len(heights))]
    for ax in axes:
        ax.set_axis_off()
    return figure, axes


def _extent(ax: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    ax.set_xlim(*x)
    ax.set_ylim(*y)
    ax.set_aspect(
        "equal"
    )  # the labels of arcs are placed in units of the axes, and arcs are drawn in those of the page


def _box(ax: Axes, at: tuple[float, float], text: str, colour: str = PLAIN) -> None:
    style = {"boxstyle": "round,pad=0.4", "facecolor": PAPER, "edgecolor": colour, "linewidth": 1.4}
    ax.text(*at, text, ha="center", va="center", fontsize=9, color=INK, bbox=style, zorder=3, linespacing=1.4)


def _arrow(
    ax: Axes,
    a: tuple[float, float],
    b: tuple[float, float],
    bend: float,
    colour: str,
    label: str = "",
    along: float = 0.5,
) -> None:
    """An arc from a to b with a label on it; `bend` is its height as a share of its length, above if positive."""
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1.6, "shrinkA": 15, "shrinkB": 15}
    ax.annotate("", b, a, arrowprops={**style, "connectionstyle": f"arc3,rad={-bend}"}, zorder=2)
    if label:
        # arc3 is a quadratic Bezier curve whose control point lies `rad` lengths beside the middle
        dx, dy = b[0] - a[0], b[1] - a[1]
        cx, cy = (a[0] + b[0]) / 2 - bend * dy, (a[1] + b[1]) / 2 + bend * dx
        s, t = 1 - along, along
        x, y = s * s * a[0] + 2 * s * t * cx + t * t * b[0], s * s * a[1] + 2 * s * t * cy + t * t * b[1]
        back = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"}
        ax.text(x, y, label, ha="center", va="center", fontsize=8.5, color=colour, bbox=back, zorder=4)


def _row(ax: Axes, boxes: Sequence[tuple[str, str]], gap: float = 1.0) -> None:
    """Boxes from left to right with arrows between."""
    for i, (text, colour) in enumerate(boxes):
        _box(ax, (i * gap, 0.0), text, colour)
    half = [2.7 * max(map(len, text.split("\n"))) + 9 for text, _ in boxes]  # of a box in points, near enough
    for i in range(len(boxes) - 1):
        style = {"arrowstyle": "-|>", "color": INK, "lw": 1.2, "shrinkA": half[i], "shrinkB": half[i + 1]}
        ax.annotate("", ((i + 1) * gap, 0), (i * gap, 0), arrowprops=style)
    ax.set_xlim(-0.5 * gap, (len(boxes) - 0.5) * gap)
    ax.set_ylim(-1, 1)


def macro(arch: Arch) -> Figure:
    """A macro network: one box for each block, with its layers and the size of its output."""
    depth, width, growth, kernel, pool, norm, act, head = arch.genome
    stride = ", stride 2" if pool == "stride" else ""
    parts = [WORDS[norm], WORDS[act], *([] if stride else [f"{pool} pool 2"])]
    boxes = [("image\n\nH x W", PLAIN)]
    for i in range(depth):
        lines = [f"conv {kernel}x{kernel}{stride}", *parts, "", f"{width * growth**i} channels, 1/{2 ** (i + 1)}"]
        boxes.append(("\n".join(lines), COLOURS["conv"]))
    boxes.append((f"{'mean of pixels' if head == 'gap' else 'all pixels'}\n\nlinear", PLAIN))
    figure, (ax,) = _canvas(1.9 * len(boxes), arch.text, 1.7)
    _row(ax, boxes)
    return figure


def cell(arch: Arch) -> Figure:
    """A cell: nodes 0 to 3 with the operations on their edges but `none`, and the network around it."""
    from raystill.platform.architectures.cells import EDGES

    *ops, channels, cells = arch.genome
    figure, (top, below) = _canvas(9.5, arch.text, 3.0, 1.1)
    places = [(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (3.0, 0.0)]
    bends = {(0, 1): 0.0, (1, 2): 0.0, (2, 3): 0.0, (0, 2): 0.35, (1, 3): -0.4, (0, 3): 0.42}
    for op, (i, j) in zip(ops, EDGES):
        if op != "none":
            _arrow(top, places[i], places[j], bends[i, j], _colour(op), op)
    for i, place in enumerate(places):
        _box(top, place, ("in", "1", "2", "out")[i])
    _extent(top, (-0.4, 3.4), (-0.5, 0.72))
    boxes = [(f"stem\nconv 3x3\n{channels}", PLAIN)]
    for stage in range(3):
        if stage:
            boxes.append((f"residual\nstride 2\n{channels * 2**stage}", PLAIN))
        boxes.append((f"{cells} x cell\n\n{channels * 2**stage}", COLOURS["conv"]))
    boxes.append(("mean of\npixels\nlinear", PLAIN))
    _row(below, boxes)
    return figure


def enas(arch: Arch) -> Figure:
    """Both cells of the micro space: each node with its two operations; unused nodes go into the output."""
    from raystill.platform.architectures.enas import NODES, halves, unused

    figure, axes = _canvas(12, arch.text.replace("+", "+\n"), 3.4, 3.4)
    for ax, name, nodes in zip(axes, ("normal cell", "reduction cell"), halves(arch.genome)):
        places = [(0.0, 0.75), (0.0, -0.75), *((1.5 * (i + 1), 0.0) for i in range(NODES)), (1.5 * (NODES + 1), 0.0)]
        for i, node in enumerate(nodes):
            for k, (source, op) in enumerate(node):
                x, y = places[2 + i]
                away = x - places[source][0]
                if source < 2:
                    bend = (0.12 + 0.03 * i) * (1 if source == 0 else -1)
                    if node[0][0] == node[1][0]:  # two arrows between the same two boxes
                        bend = bend + 0.2 * (1 if k == 0 else -1)
                else:  # a node's first operation passes above the nodes between, its second below
                    bend = (1 if k == 0 else -1) * (0.3 if away > 2 or node[0][0] == node[1][0] else 0.12)
                _arrow(ax, places[source], (x, y), bend, _colour(op), op, 0.62 if source < 2 else 0.5)
        for k in unused(nodes):
            _arrow(ax, places[k], places[-1], -0.35 if k < 1 + NODES else 0.0, "#c9c9c9")
        for i, place in enumerate(places):
            label = "cell before\nthe last" if i == 0 else "last cell" if i == 1 else str(i)
            _box(ax, place, "out" if i == len(places) - 1 else label)
        ax.set_title(name, fontsize=10, loc="left", color=INK)
        _extent(ax, (-0.7, places[-1][0] + 0.4), (-1.35, 1.35))
    return figure


EXAMPLES = {
    "macro": "macro:d3-w16-x2-k3-max-group-relu-gap",
    "cell": "cell:conv3-skip.conv1-skip.pool.conv3@c8n1",
    "enas": "enas:0conv3.1id-1max3.2conv1-0asym7.1conv3-3avg5.2id-1conv3.4avg2"
    "+0max2.1conv3-0conv1.2id-1asym3.3max3-2conv3.0avg3-5id.1max5@c8n1",
}


def main(folder: Path) -> None:
    """Write `space-NAME.png` of one example of each space into a folder."""
    from raystill.platform.architectures import parse

    for name, text in EXAMPLES.items():
        figure = parse(text).draw()
        figure.savefig(
            folder / f"space-{name}.png", dpi=math.ceil(1100 / figure.get_figwidth()), metadata={"Software": ""}
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
