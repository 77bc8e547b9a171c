"""`import raystill`: fast, light, and with names that are there when they are asked for."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import raystill

IMPORT = """
import json, sys, time
began = time.perf_counter()
import raystill
print(json.dumps([time.perf_counter() - began, sorted(sys.modules), dir(raystill)]))
"""
HEAVY = {"torch", "numpy", "ray", "pydantic", "pyarrow", "matplotlib", "PIL", "mlflow", "yaml", "sklearn", "scipy"}


def test_import_takes_no_time_and_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True, timeout=60)
    seconds, modules, names = json.loads(done.stdout)
    assert seconds < 0.3
    assert not HEAVY & {name.split(".")[0] for name in modules}
    assert set(raystill.__all__) <= set(names)


@pytest.mark.parametrize("name", raystill.__all__)
def test_each_name_is_the_function_that_static_readers_see(name: str) -> None:
    part = getattr(raystill, name)
    assert part.__name__ == name
    tree = ast.parse(Path(raystill.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    homes = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert set(homes) == set(raystill.__all__)
    assert homes[name] == raystill._HOMES[name]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        raystill.distil  # noqa: B018
