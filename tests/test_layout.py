"""The two traps of the layout; import-linter's contracts, in pyproject.toml, say which room may import which."""

from __future__ import annotations

import ast
import json
import platform
import subprocess
import sys
from pathlib import Path

import tomllib

ROOT = Path(__file__).parents[1]
ROOMS = {"raystill.platform": "platform", "raystill.actors": "actors", "raystill.search": "search"}

IMPORT_ALL = """
import importlib, json, pkgutil
import raystill.platform
names = [m.name for m in pkgutil.walk_packages(raystill.platform.__path__, "raystill.platform.")]
for name in names:
    importlib.import_module(name)
print(json.dumps(names))
"""
HELP = """
import json, sys
from raystill.platform import cli
try:
    cli.main(["--help"])
except SystemExit as stop:
    assert not stop.code
print("\\n" + json.dumps(sorted(sys.modules)))
"""


def python(code: str, cwd: Path = ROOT) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def test_the_standard_librarys_platform_is_not_shadowed() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    number, file = python("import platform; print(platform.python_version()); print(platform.__file__)").split()
    assert number == platform.python_version()
    assert not Path(file).is_relative_to(ROOT)


def test_every_module_of_platform_is_found_and_imports() -> None:
    names = json.loads(python(IMPORT_ALL))
    walked = {f"raystill.platform.{p.relative_to(ROOT / 'platform').with_suffix('')}" for p in files("platform")}
    assert {n.replace("/", ".").removesuffix(".__init__") for n in walked} == set(names)


def test_help_imports_nothing_heavy() -> None:
    out = python(HELP)
    assert "distill" in out
    modules = json.loads(out.splitlines()[-1])
    heavy = (
        "torch torchvision ray pydantic pydantic_settings numpy pyarrow mlflow yaml rich sklearn matplotlib PIL "
        "safetensors shtab"
    )
    assert not set(heavy.split()) & {m.split(".")[0] for m in modules}


def test_the_three_folders_are_linked_into_the_package_and_every_one_below_is_typed() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert tools == {
        "package-dir": {"": "."},
        "packages": {"find": {"include": ["raystill*"]}},
        "package-data": {"*": ["py.typed", "*.yaml", "*.css"]},
    }
    for room in ROOMS.values():
        assert (ROOT / "raystill" / room).readlink() == Path("..", room)
        assert files(room)
        assert all((path.parent / "py.typed").exists() for path in files(room))


def test_tests_hold_no_packages_and_skip_nothing() -> None:
    paths = files("tests")
    assert not [p for p in paths if p.name == "__init__.py"]
    for path in paths:
        tree = ast.parse(path.read_text())
        used = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        skips = [name for name in used if name.startswith(("skip", "xfail", "importorskip"))]
        assert not skips, f"{path.name} leaves tests out: {skips}"


def _checks(test: ast.FunctionDef) -> bool:
    """Whether a test asserts, expects an error, or calls something whose name says that it checks."""
    for node in ast.walk(test):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).split(".")[-1]
            if name in ("raises", "warns", "fail") or name.startswith(("assert_", "close")):
                return True
    return False


def test_no_test_is_without_an_assertion() -> None:
    tests = [
        (path, node)
        for path in files("tests")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert len(tests) > 100
    assert not [f"{path.name}::{test.name}" for path, test in tests if not _checks(test)]
