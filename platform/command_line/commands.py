"""The commands that compute nothing: report, recipes, ui, completion."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from raystill.platform import registry
from raystill.platform.cli import Parser
from raystill.platform.recipes import RECIPES, about


def _parser(command: str, text: str) -> Parser:
    return Parser(prog=f"raystill {command}", description=text)


def report(argv: list[str]) -> int:
    """Write a run's report.html again."""
    from raystill.platform import runs
    from raystill.platform.report import write_report

    parser = _parser("report", "Write a run's report.html again, from what lies in its folder.")
    parser.add_argument("folder", type=Path, metavar="RUN", help="the run's folder")
    folder = parser.parse_args(argv).folder
    command = runs.made_by(folder)
    maker = runs.MAKERS.get(command)
    write: Any = getattr(importlib.import_module(maker), "write_report", None) if maker else write_report
    if write is None:
        raise ValueError(f"{folder}: was made by `raystill {command}`, which writes no report")
    print(write(folder))
    return 0


def recipes(argv: list[str]) -> int:
    """List the named recipes, or print one."""
    parser = _parser("recipes", "List the named recipes, or print one's YAML.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="recipe to print")
    name = parser.parse_args(argv).name
    if name is None:
        for known in RECIPES:
            print(f"{known:24s} {about(known)}")
    elif name in RECIPES:
        print(RECIPES[name].read_text(), end="")
    else:
        raise ValueError(f"unknown recipe {name!r}; {registry.nearest(name, RECIPES)}")
    return 0


def ui(argv: list[str]) -> NoReturn:
    """Open MLflow's pages on the tracking store, on localhost alone."""
    parser = _parser("ui", "Serve MLflow's pages on the runs tracked here, on this machine alone; Ctrl-C ends it.")
    parser.add_argument("--port", type=int, default=5000, help="port on localhost (default: 5000)")
    parser.add_argument("--uri", help="tracking store; else $MLFLOW_TRACKING_URI or sqlite:///mlflow.db")
    args = parser.parse_args(argv)
    uri = args.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise ValueError(f"no runs are tracked here: {uri.removeprefix('sqlite:///')} does not exist; "
                         "go to the folder that you ran in, or give --uri")  # fmt: skip
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        uri,
        "--host",
        "127.0.0.1",
        "--port",
        str(args.port),
    ]
    print(f"http://127.0.0.1:{args.port}", flush=True)
    os.execve(sys.executable, command, environment)  # so that signals reach the server itself


def completion(argv: list[str]) -> int:
    """Print a completion script for bash, zsh or tcsh."""
    import shtab
    from pydantic import BaseModel

    from raystill.platform.cli import COMMANDS
    from raystill.platform.command_line.options import parser_of
    from raystill.platform.spec import DistillSpec
    from raystill.platform.students.spec import KdSpec

    specs: dict[str, type[BaseModel]] = {"distill": DistillSpec, "kd": KdSpec}
    parser = _parser("completion", 'Print a shell completion script: eval "$(raystill completion bash)"')
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS)
    shell = parser.parse_args(argv).shell
    root = argparse.ArgumentParser(prog="raystill")
    commands = root.add_subparsers()
    for name, (_, text) in COMMANDS.items():
        if name in specs:
            commands.add_parser(name, help=text, parents=[parser_of(specs[name], name, text)[0]], add_help=False)
            continue
        sub = commands.add_parser(name, help=text)
        if name in ("resume", "assess", "report"):
            sub.add_argument("folder").complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif name == "recipes":
            sub.add_argument("name", choices=sorted(RECIPES))
    print(shtab.complete(root, shell=shell))
    return 0
