"""The command line: a table of commands as dotted names, resolved at dispatch, so that `raystill --help` is instant."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from typing import NoReturn

COMMANDS: dict[str, tuple[str, str]] = {
    "distill": ("raystill.actors.commands:distill", "distil a data set: images, a table, a report, an MLflow run"),
    "pretrain": ("raystill.actors.pretrain:command", "train a pool of networks for runs to start from"),
    "kd": ("raystill.platform.command_line.kd:kd", "train students: from teachers, mixtures, unlabelled images"),
    "search": (
        "raystill.search.commands:search",
        "search temperatures, architectures or hyperparameters; compare rankers",
    ),
    "resume": ("raystill.actors.commands:resume", "continue a run that was stopped or killed"),
    "assess": (
        "raystill.actors.commands:assess",
        "evaluate a run's result on test data again, with other networks too",
    ),
    "replay": (
        "raystill.actors.drive.replay:command",
        "compute a run's result again from its commit log, to the same bits",
    ),
    "attach": ("raystill.actors.launch.attach:attach", "follow a run from a second terminal"),
    "pull": ("raystill.actors.launch.attach:pull", "copy a run from its storage to this machine"),
    "export": (
        "raystill.platform.artifacts.export:command",
        "write a result as PNG, NPZ, Hugging Face layout or safetensors",
    ),
    "report": ("raystill.platform.command_line.commands:report", "write a run's report.html again"),
    "recipes": ("raystill.platform.command_line.commands:recipes", "list the named recipes, or print one"),
    "ui": ("raystill.platform.command_line.commands:ui", "show the runs in MLflow's pages"),
    "doctor": ("raystill.actors.launch.doctor:doctor", "show what this machine offers"),
    "cluster": ("raystill.actors.launch.cluster_file.check:cluster", "check a cluster file before machines are rented"),
    "submit": (
        "raystill.actors.launch.submit:submit",
        "run a raystill command on a running cluster and follow its log",
    ),
    "completion": ("raystill.platform.command_line.commands:completion", "print a shell completion script"),
}


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are one line, printed where every other mistake of the user's is."""

    def error(self, message: str) -> NoReturn:
        """Raises ValueError."""
        raise ValueError(message)


def _parser() -> Parser:
    parser = Parser(
        prog="raystill",
        description="Learn the training data itself.",
        epilog="`raystill COMMAND --help` says more. `raystill distill` alone runs a small distillation in a minute.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


def resolved(dotted: str) -> Callable[..., int | None]:
    """A command's function, imported now."""
    module, _, function = dotted.partition(":")
    command: Callable[..., int | None] = getattr(importlib.import_module(module), function)
    return command


def _brief(error: Exception) -> str:
    """The last line that says something; remote errors carry a whole traceback before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 1 (it failed), 2 (the user's mistake), 130 or 143 (stopped)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    parser = _parser()
    if arguments and arguments[0] == "--version":
        from importlib.metadata import version

        print(version("raystill"))
        return 0
    if not arguments or arguments[0].startswith("-"):
        try:
            parser.parse_args(arguments)
        except ValueError as error:
            print(f"raystill: error: {error}", file=sys.stderr)
            return 2
        parser.print_help()
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        from raystill.platform.registry import nearest

        print(f"raystill: unknown command {name!r}; {nearest(name, COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return resolved(COMMANDS[name][0])(rest) or 0
    except KeyboardInterrupt as stop:
        print(f"\nraystill {name}: {str(stop) or 'stopped'}", file=sys.stderr)
        return int(getattr(stop, "code", 130))  # 143 after SIGTERM
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stdout = None
        return 0
    except ValueError as error:
        if debug:
            raise
        print(f"raystill {name}: error: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # the last word to a person; --debug has the traceback
        if debug:
            raise
        print(
            f"raystill {name}: failed: {type(error).__name__}: {_brief(error)} (--debug shows where)", file=sys.stderr
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
