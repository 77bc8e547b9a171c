"""Seeds are addresses; and no other file makes random numbers."""

from __future__ import annotations

import ast
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from raystill.platform.seeds import Address, fixed_global, numpy_rng, torch_rng

ROOT = Path(__file__).parents[2]
ADDRESS = Address(3, 1, 20, 7, "real")
DRAW = """
import json
from raystill.platform.seeds import Address, numpy_rng, torch_rng
import torch
a = Address(3, 1, 20, 7, "real")
drawn = [numpy_rng(a).integers(0, 2**62, 4).tolist(), torch.randint(2**62, (4,), generator=torch_rng(a)).tolist()]
print(json.dumps(drawn))
"""


def drawn(address: Address) -> list[list[int]]:
    return [
        numpy_rng(address).integers(0, 2**62, 4).tolist(),
        torch.randint(2**62, (4,), generator=torch_rng(address)).tolist(),
    ]


def test_another_process_draws_the_same_numbers() -> None:
    found = subprocess.check_output([sys.executable, "-c", DRAW], env={"PYTHONHASHSEED": "99"}, timeout=120)
    assert json.loads(found) == drawn(ADDRESS)


def test_every_coordinate_names_another_stream() -> None:
    near = [
        ADDRESS,
        *(ADDRESS.at(**{name: getattr(ADDRESS, name) + 1}) for name in ("seed", "attempt", "step", "member")),
        *(ADDRESS.at(stream=stream) for stream in ("", "rea", "real ", "laer", "Real")),
        Address(1, 3, 20, 7, "real"),
        Address(3, 20, 1, 7, "real"),
        Address(3, 1, 7, 20, "real"),
    ]
    for kind in (0, 1):
        seen = {tuple(drawn(address)[kind]) for address in near}
        assert len(seen) == len(near)


def test_neighbouring_streams_are_not_correlated() -> None:
    rows = np.stack([numpy_rng(Address(0, member=m)).standard_normal(2000) for m in range(8)])
    draws = [torch.randn(2000, generator=torch_rng(Address(0, member=m)), dtype=torch.float64) for m in range(8)]
    for found in (rows, torch.stack(draws).numpy()):
        off = [np.corrcoef(found[i], found[j])[0, 1] for i, j in itertools.combinations(range(8), 2)]
        assert np.abs(off).max() < 5 / np.sqrt(2000)


def test_an_address_is_read_twice_from_its_beginning() -> None:
    assert drawn(ADDRESS) == drawn(ADDRESS)
    assert drawn(ADDRESS.at(member=8).at(member=7)) == drawn(ADDRESS)
    assert str(ADDRESS) == "seed=3 attempt=1 step=20 member=7 stream=real"


def test_a_negative_coordinate_is_refused() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        numpy_rng(Address(-1))


def test_other_peoples_constructors_run_under_one_seed_and_leave_no_trace() -> None:
    before = torch.random.get_rng_state()
    with fixed_global():
        first = torch.nn.Linear(3, 3).weight.detach()
    with fixed_global():
        second = torch.nn.Linear(3, 3).weight.detach()
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)


TYPES = {"Generator", "BitGenerator", "SeedSequence", "Philox", "default_rng"}
DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}


def _faults(tree: ast.AST) -> list[tuple[int, str]]:
    """Global or unaddressed random numbers in a syntax tree: (line, what)."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "random":
            found.append((node.lineno, "from random"))
        if isinstance(node, ast.ImportFrom) and node.module == "numpy.random":
            found.append((node.lineno, "from numpy.random"))
        if isinstance(node, ast.Import) and any(alias.name == "random" for alias in node.names):
            found.append((node.lineno, "import random"))
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if ast.unparse(node.value) in ("np.random", "numpy.random") and node.attr not in TYPES:
                found.append((node.lineno, name))
            if name in ("torch.manual_seed", "torch.seed", "torch.random.manual_seed", "torch.cuda.manual_seed_all"):
                found.append((node.lineno, name))
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            part = name.removeprefix("torch.")
            if name.endswith("random.default_rng") and not node.args:
                found.append((node.lineno, f"{name} without a seed"))
            if name.startswith("torch.") and part in DRAWS and not any(k.arg == "generator" for k in node.keywords):
                found.append((node.lineno, f"{name} without a generator"))
    return found


def _sources() -> list[Path]:
    rooms = ("platform", "actors", "search", "benchmarks", "examples", "docs", "tests")
    return [p for room in rooms for p in sorted((ROOT / room).rglob("*.py"))]


def test_no_file_but_one_makes_random_numbers_of_its_own() -> None:
    sources = _sources()
    assert ROOT / "platform" / "seeds.py" in sources
    allowed = {ROOT / "platform" / "seeds.py"}
    faults = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in sources
        if path not in allowed
        for line, what in _faults(ast.parse(path.read_text()))
    ]
    assert not faults, "draw from an address instead (platform/seeds.py):\n" + "\n".join(faults)


@pytest.mark.parametrize(
    "source",
    [
        "np.random.seed(0)",
        "numpy.random.rand(3)",
        "np.random.default_rng()",
        "torch.manual_seed(1)",
        "import random",
        "from random import shuffle",
        "from numpy.random import rand",
        "torch.randn(3, dtype=torch.float64)",
    ],
)
def test_the_lint_finds(source: str) -> None:
    assert _faults(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    ["np.random.Generator(np.random.Philox(1)).integers(3)", "np.random.default_rng(7)", "torch.randn(3, generator=g)"],
)
def test_the_lint_passes(source: str) -> None:
    assert not _faults(ast.parse(source))
