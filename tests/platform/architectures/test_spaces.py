"""What every space must be: texts that name functions, counts against torch's own, networks that can be learners."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.func import vmap
from torch.utils.flop_counter import FlopCounterMode

from raystill.platform import learners, seeds
from raystill.platform.architectures import Arch, Space, cells, enas, macro, network, parse, space
from raystill.platform.learners import drawing, networks
from raystill.platform.objectives import Out, Step, make
from raystill.platform.spec import LearnerSpec

SHAPE, CLASSES = (2, 9, 10), 3  # odd, and not square
SPACES: dict[str, Callable[[], Space]] = {
    "macro": lambda: macro.space(widths=(4, 6)),
    "cell": lambda: cells.space(channels=(4,)),
    "enas": lambda: enas.space(channels=(2, 4)),
}
each = pytest.mark.parametrize("name", SPACES)
drawn = pytest.mark.parametrize(
    ("name", "member"), [(name, k) for name in SPACES for k in range(4 if name == "enas" else 8)]
)


def at(member: int, stream: str = "arch") -> seeds.Address:
    return seeds.Address(3, member=member, stream=stream)


def sample(name: str, member: int) -> Arch:
    return SPACES[name]().sample(at(member))


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=seeds.torch_rng(at(0, "images")), dtype=torch.float64)


@drawn
def test_a_drawn_architecture_reads_back_and_counts_as_torch_does(name: str, member: int) -> None:
    arch = sample(name, member)
    assert arch == sample(name, member)
    assert parse(arch.text) == arch
    assert parse(arch.text).text == arch.text
    built = arch.build(SHAPE, CLASSES)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built(torch.zeros(1, *SHAPE))
    assert arch.flops(SHAPE, CLASSES) == counter.get_total_flops() > 0
    assert arch.parameters(SHAPE, CLASSES) == sum(p.numel() for p in built.parameters()) > 0


@drawn
def test_a_drawn_architecture_is_a_learner_that_trains_and_is_differentiable_twice(name: str, member: int) -> None:
    """The derivative of the loss after one step, along the learned images, against finite differences."""
    arch = sample(name, member)
    learner = learners.build(LearnerSpec(name=arch.text), SHAPE, CLASSES)
    assert learner.size == arch.parameters(SHAPE, CLASSES)
    theta = learner.init(at(member, "theta0")).double()
    x, y = images(4, *SHAPE), torch.tensor([0, 1, 2, 0])

    def loss(theta: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return make("cross_entropy")(Step(x, y, Out(learner.apply(theta, x)))).mean()

    def after(x: torch.Tensor, lr: float = 1e-2, graph: bool = True) -> torch.Tensor:
        leaf = theta.clone().requires_grad_()
        (g,) = torch.autograd.grad(loss(leaf, x), leaf, create_graph=graph)
        return loss(leaf - lr * g, images(4, *SHAPE).flip(0))

    leaf = theta.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(leaf, x), leaf)
    assert loss(theta - 1e-4 * g, x) < loss(theta, x)
    given = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(after(given), given)
    assert found.any()
    # kinks lie close to each other, and a difference must not cross one: it holds at one of some directions and sizes
    gaps = []
    for k in range(3):
        way = torch.randn(x.shape, generator=seeds.torch_rng(at(k, "way")), dtype=torch.float64)
        for h in (1e-5, 1e-6, 1e-7):
            expected = float((after(x + h * way) - after(x - h * way)).detach()) / (2 * h)
            gaps.append(abs(float((found * way).sum()) - expected) / (abs(expected) + 1e-6))
    assert min(gaps) < 1e-3
    pair = torch.stack([theta, 1.1 * theta])
    together = vmap(learner.apply, in_dims=(0, None))(pair, x)
    torch.testing.assert_close(together, torch.stack([learner.apply(t, x) for t in pair]), rtol=1e-9, atol=1e-11)


@drawn
def test_each_image_is_judged_by_itself(name: str, member: int) -> None:
    built, x = sample(name, member).build(SHAPE, CLASSES).double(), images(3, *SHAPE)
    kept = x.clone()
    logits = built(x)
    assert logits.shape == (3, CLASSES)
    assert torch.equal(x, kept)
    torch.testing.assert_close(torch.cat([built(z[None]) for z in x]), logits, rtol=1e-9, atol=1e-11)


@each
def test_draws_and_changes_follow_the_address_alone(name: str) -> None:
    here = SPACES[name]()
    archs = [here.sample(at(k)) for k in range(20)]
    assert len({arch.key for arch in archs}) == len({arch.text for arch in archs}) > 15
    for k, arch in enumerate(archs):
        changed = here.mutate(arch, at(k, "mutate"))
        assert changed != arch
        assert changed == here.mutate(arch, at(k, "mutate"))
        assert parse(changed.text) == changed
    assert len({here.mutate(archs[0], at(k, "mutate")).text for k in range(20)}) > 5


def test_a_change_is_of_one_choice() -> None:
    arch = parse("macro:d3-w8-x2-k3-max-group-relu-gap")
    for k in range(10):
        changed = macro.space().mutate(arch, at(k))
        assert sum(a != b for a, b in zip(arch.genome, changed.genome)) in (1, 2)  # one block forgets the growth
        assert sum(a != b for a, b in zip(arch.genome, changed.genome)) == 1 or changed.genome[0] == 1


def test_the_macro_space_is_864_genomes_and_720_networks() -> None:
    here = macro.space()
    archs = list(here.all())
    assert here.size == 3 * 3 * 2 * 2 * 3 * 2 * 2 * 2 == 864
    assert len(archs) == len(set(archs)) == len({a.key for a in archs}) == 864 - 864 // 3 // 2
    assert parse("macro:d1-w8-x2-k3-max-group-relu-gap") == parse("macro:d1-w8-x1-k3-max-group-relu-gap")


@pytest.mark.parametrize("text", ["macro:d2-w6-x2-k3-max-none-relu-fc", "macro:d2-w4-x1-k5-max-group-tanh-gap"])
def test_max_pooling_is_torch_s_to_the_bit(text: str) -> None:
    own = network(text)(SHAPE, CLASSES, None, None)
    assert isinstance(own, torch.nn.Sequential)
    layers = [torch.nn.MaxPool2d(2) if isinstance(layer, networks.MaxPool2) else layer for layer in own]
    assert sum(isinstance(layer, torch.nn.MaxPool2d) for layer in layers) == 2
    x, answers = images(5, *SHAPE).float(), []
    for module in (own, torch.nn.Sequential(*layers)):
        loss = module(x).square().sum()
        first = torch.autograd.grad(loss, list(own.parameters()), create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), list(own.parameters()))
        answers.append([loss, *first, *second])
    assert all(torch.equal(a, b) for a, b in zip(*answers))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # kernels and their norms' scale and shift (or biases), and a head
        ("macro:d2-w4-x2-k3-max-group-relu-gap", (9 * 3 * 4 + 2 * 4) + (9 * 4 * 8 + 2 * 8) + 8 * 10 + 10),
        ("macro:d2-w4-x1-k5-avg-none-tanh-fc", (25 * 3 * 4 + 4) + (25 * 4 * 4 + 4) + 4 * 4 * 10 + 10),
        ("macro:d1-w6-x1-k3-stride-none-relu-fc", 9 * 3 * 6 + 6 + 6 * 16 * 10 + 10),
        # stem, head, two residual blocks, and in each stage one 3x3 and one 1x1 convolution
        (
            "cell:conv3-none.conv1-none.none.skip@c4n1",
            (27 * 4 + 8) + (32 + 16 * 10 + 10)
            + sum(9 * c * 2 * c + 4 * c + 9 * 4 * c * c + 4 * c + 2 * c * c for c in (4, 8))
            + sum(9 * c * c + 2 * c + c * c + 2 * c for c in (4, 8, 16)),
        ),
    ],
)  # fmt: skip
def test_parameters_are_those_of_the_formula(text: str, expected: int) -> None:
    assert parse(text).parameters((3, 8, 8), 10) == expected


def test_flops_are_two_for_each_multiply_add() -> None:
    arch = parse("macro:d2-w4-x2-k3-max-none-relu-gap")
    assert arch.flops((3, 8, 8), 10) == 2 * (64 * 27 * 4 + 16 * 36 * 8 + 8 * 10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("macro:d3-w16-y2", r"'macro:d3-w16-y2' does not parse at character 13 \('-y2'\): expected '-x'$"),
        ("macro:d3-w16-x3-k3", r"at character 15 \('3-k3'\): expected '1' or '2'$"),
        ("macro:d0-w16", r"at character 8 \('0-w16'\): expected a whole number from 1 to 12$"),
        ("macro:d3-w16-x2-k3-max-batch-relu-gap", r"at character 24 .*expected 'none' or 'group'$"),
        ("macro:d3-w16-x2-k3-max-group-relu-gap-", r"at character 38 \('-'\): expected its end$"),
        ("cell:conv3-none.skip-conv1.pool", r"at character 32 \(its end\): expected '.'$"),
        ("cell:conv3-none.skip-conv2.pool.none", r"at character 22 .*expected one of none, skip, pool, conv1, conv3$"),
        ("cell:conv3-none.skip-conv1.pool.none@c0n1", r"at character 39 .*whole number from 1 to 512$"),
        ("cell:conv3-none.none-none.none.none", r"nothing reaches the cell's output"),
        ("enas:0conv3.2id", r"at character 13 \('2id'\): expected '0' or '1'$"),
        ("nope:d3", r"space: unknown 'nope'; valid: cell, enas, macro$"),
    ],
)
def test_a_text_that_does_not_parse_is_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cell", "enas"])
def test_a_space_of_another_scale_has_the_same_cells_at_that_scale(name: str) -> None:
    usual, larger = space(name).sample(at(1)), space(f"{name}@c12n2").sample(at(1))
    assert usual.text.replace("@c8n1", "@c12n2") == larger.text == parse(larger.text).text
    assert usual.key != larger.key
    assert space(f"{name}@c12n2").mutate(larger, at(2)).text.endswith("@c12n2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cell@c8", r"^space: 'cell@c8' does not parse at character 8 \(its end\): expected 'n'$"),
        ("enas@8", r"^space: 'enas@8' does not parse at character 5 \('@8'\): expected '@c'$"),
        ("macro@c8n1", r"^space: macro has no scale"),
        ("cel@c8n1", r"^space: unknown 'cel'; did you mean 'cell'"),
    ],
)
def test_a_scale_that_is_none_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        space(name)


def test_what_is_too_large_for_the_image_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^architecture 'macro:d3-.*' needs images of at least 8x8 pixels.* 7x9; set"):
        parse("macro:d3-w4-x1-k3-max-none-relu-gap").build((1, 7, 9), 2)
    with pytest.raises(ValueError, match=r"^space: macro has networks that halve the image 3 times.* 6x6; set"):
        macro.space().check((1, 6, 6))
    with pytest.raises(ValueError, match=r"^space: enas .* at least 4x4 pixels, these are 3x8"):
        enas.space().check((1, 3, 8))
    macro.space(depths=(1, 2)).check((1, 6, 6))


@each
def test_the_smallest_image_that_is_let_through_works(name: str) -> None:
    here = SPACES[name]()
    for arch in (here.sample(at(k)) for k in range(6)):
        side = here.pixels(arch.genome)
        assert arch.build((1, side, side), 2)(torch.zeros(2, 1, side, side)).isfinite().all()


def test_a_space_too_large_to_list_says_so() -> None:
    assert space("enas").size == math.prod(((2 + i) * 11) ** 2 for i in range(5)) ** 2
    with pytest.raises(ValueError, match=r"space: enas has 1\.8e\+32 genomes, too many to list"):
        next(space("enas").all())


def test_nodes_and_operations_in_another_order_are_the_same_enas_cell() -> None:
    rest = "2conv1.0id-3max2.0id-5avg5.4id+0id.1id-0id.1id-0id.1id-0id.1id-0id.1id@c4n1"
    one = parse(f"enas:0conv3.1max3-0asym7.1avg3-{rest}")
    # the first two nodes changed places, and the operations of each
    moved = rest.replace("2conv1.0id-3max2", "0id.3conv1-2max2")
    other = parse(f"enas:1avg3.0asym7-1max3.0conv3-{moved}")
    assert one == other
    assert one != parse(f"enas:0conv3.1max3-0asym7.1avg5-{rest}")


@pytest.mark.parametrize("member", range(6))
def test_an_enas_cell_and_its_representative_compute_the_same_channels(member: int) -> None:
    rng = seeds.numpy_rng(at(member, "enas"))
    ops = [enas.OPS[rng.integers(11)] for _ in range(10)]
    edges = [(int(rng.integers(2 + k // 2)), op) for k, op in enumerate(ops)]
    nodes = tuple((edges[2 * i], edges[2 * i + 1]) for i in range(5))
    best = enas.least(nodes)
    with seeds.fixed_global():
        one, other = (enas._Cell(cell, (4, 4), False, 4, 2).double() for cell in (nodes, best))
    for order in itertools.permutations(range(5)):
        names = {0: 0, 1: 1, **{2 + i: 2 + k for k, i in enumerate(order)}}
        moved = [sorted((names[s], op, 2 * i + k) for k, (s, op) in enumerate(nodes[i])) for i in order]
        if tuple(tuple((s, op) for s, op, _ in node) for node in moved) == best:
            for k, place in enumerate(place for node in moved for _, _, place in node):
                other.ops[k].load_state_dict(one.ops[place].state_dict())
            break
    else:
        pytest.fail("the representative is none of the cell's orders")
    other.before.load_state_dict(one.before.state_dict())
    other.last.load_state_dict(one.last.state_dict())
    x = images(2, 4, 7, 6)
    found, expected = (cell(x, x.flip(1)).mean((0, 2, 3)).sort().values for cell in (other, one))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_learner_takes_its_size_from_its_text() -> None:
    text = "macro:d2-w4-x1-k3-max-none-relu-gap"
    with pytest.raises(ValueError, match=r"learner\.width: 'macro:d2.*has its own width"):
        learners.build(LearnerSpec(name=text, width=3), SHAPE, CLASSES)
    with pytest.raises(ValueError, match=r"^learner\.name: architecture 'macro:e2' does not parse at character 7"):
        learners.build(LearnerSpec(name="macro:e2"), SHAPE, CLASSES)
    with pytest.raises(ValueError, match=r"^learner\.name: unknown 'mcro'; did you mean 'macro'\?"):
        learners.build(LearnerSpec(name="mcro:d2"), SHAPE, CLASSES)


def test_a_space_of_ones_own_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `--space`, as a learner's text, and as what members of meta-training draw from."""
    info = tmp_path / "spaces_elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spaces-elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[raystill.spaces]\nnarrow = spaces_elsewhere:NARROW\n")
    (tmp_path / "spaces_elsewhere.py").write_text(
        "from dataclasses import replace\n"
        "from raystill.platform.architectures import macro\n"
        "NARROW = replace(macro.space(depths=(1,), widths=(4,), kernels=(3,)), name='narrow')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert space("narrow").size == 2 * 3 * 2 * 2 * 2
    assert parse("narrow:d1-w4-x1-k3-max-none-relu-gap").text == "narrow:d1-w4-x1-k3-max-none-relu-gap"
    built = learners.build(LearnerSpec(name="narrow:d1-w4-x1-k3-max-none-relu-gap"), (1, 4, 4), 2)
    assert built.size == 9 * 4 + 4 + 4 * 2 + 2
    draw = drawing.drawing(LearnerSpec(draw="narrow"), (1, 4, 4), lambda _: True)
    assert draw(at(0)).name.startswith("narrow:d1-w4-")


def test_a_part_that_is_no_space_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^space: 'mine' is function, not a raystill.*Space"):
        space("mine", {"spaces": {"mine": lambda text: None}})


@each
def test_a_picture_names_the_architecture_and_its_operations(name: str) -> None:
    arch = sample(name, 1)
    page = io.BytesIO()
    figure = arch.draw()
    figure.savefig(page, format="svg")
    assert page.getvalue().startswith(b"<?xml")
    said = "".join(text.get_text() for ax in figure.axes for text in ax.texts)
    words = {"macro": ("conv", "linear"), "cell": tuple({*arch.genome[:6]} - {"none"}), "enas": arch.genome[1:40:2]}
    assert all(word in said for word in words[name])
    suptitle = figure.get_suptitle()
    assert suptitle.replace("\n", "") == arch.text
