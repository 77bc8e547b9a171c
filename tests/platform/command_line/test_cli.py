"""Exit codes, and one readable line for each mistake; few real processes, since each costs a start."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from raystill.platform import cli
from raystill.platform.recipes import RECIPES


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "raystill.platform.cli", *argv], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_process_that_succeeds_exits_with_0_and_speaks_on_stdout() -> None:
    done = run("recipes")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(RECIPES)


def test_a_process_with_a_mistake_exits_with_2_and_one_line() -> None:
    done = run("distill", "--learner.nmae", "mlp")
    assert (done.returncode, done.stdout) == (2, "")
    expected = "raystill distill: error: unknown option --learner.nmae; did you mean --learner.name\n"
    assert done.stderr == expected.replace("name\n", "name?\n")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """The command line in this process: (exit code, stdout, stderr)."""

    def main(*argv: str) -> tuple[int, str, str]:
        try:
            code = cli.main(list(argv))
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return main


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["distil"], "unknown command 'distil'; did you mean 'distill'"),
        (["xyzzy"], "unknown command 'xyzzy'"),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["recipes", "mnist"], "unknown recipe 'mnist'; "),
        (["recipes", "digits", "more"], "unrecognized arguments: more"),
        (["report"], "the following arguments are required: RUN"),
        (["report", "/no/such/run"], "/no/such/run is not a run"),
        (["resume", "/no/such/run"], "/no/such/run is not a run"),
        (["completion", "fishy"], "invalid choice: 'fishy'"),
        (["ui", "--port", "many"], "invalid int value: 'many'"),
        (["distill", "--recipe", "nope"], "--recipe: unknown 'nope'; valid: "),
        (["distill", "--outer.steps", "0"], "outer.steps: input should be greater"),
        (["distill", "--data.source", "digts"], "data.source: unknown 'digts'; did you mean 'digits'"),
        (["distill", "--learner.name", "lenett"], "learner.name: unknown 'lenett'; did you mean 'lenet'"),
        (["distill", "--inner.objective", "mse"], "inner.objective: unknown 'mse'"),
        (["distill", "--run.name", "../up"], "run.name '../up' must be"),
        (["assess", "--assess.architectures", "mlp"], "the following arguments are required: RUN"),
    ],
)
def test_a_mistake_is_exit_code_2_and_one_line_on_stderr(
    call: Any, argv: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYSTILL_CACHE", str(tmp_path / "cache"))
    code, out, err = call(*argv)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("raystill")
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_other_failures_are_exit_code_1_and_say_how_to_see_more(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(argv: list[str]) -> int:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("raystill.platform.command_line.commands.recipes", broken)
    code, out, err = call("recipes")
    assert (code, out) == (1, "")
    assert err == "raystill recipes: failed: RuntimeError: the disk is full (--debug shows where)\n"
    with pytest.raises(RuntimeError):
        cli.main(["recipes", "--debug"])


def test_ctrl_c_is_exit_code_130_and_says_what_was_said(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(argv: list[str]) -> int:
        raise KeyboardInterrupt("stopped; go on with: raystill resume runs/x")

    monkeypatch.setattr("raystill.platform.command_line.commands.recipes", stopped)
    code, _, err = call("recipes")
    assert code == 130
    assert err == "\nraystill recipes: stopped; go on with: raystill resume runs/x\n"


def test_version_and_help(call: Any) -> None:
    assert call("--version") == (0, f"{version('raystill')}\n", "")
    for argv in ((), ("--help",), ("-h",)):
        code, out, err = call(*argv)
        assert (code, err) == (0, "")
        assert all(name in out and text in " ".join(out.split()) for name, (_, text) in cli.COMMANDS.items())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_exists_and_has_help(call: Any, name: str) -> None:
    code, out, err = call(name, "--help")
    assert (code, err) == (0, "")
    assert f"usage: raystill {name}" in out


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_printed_as_it_is(call: Any, name: str) -> None:
    assert call("recipes", name) == (0, RECIPES[name].read_text(), "")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_options_and_choices(call: Any, shell: str) -> None:
    code, out, err = call("completion", shell)
    assert (code, err) == (0, "")
    for word in (*cli.COMMANDS, "--outer.steps", "--recipe", "orthogonal", "mnist-fixed-10"):
        assert word in out
