"""The commands of README and guides: each is taken by its parser, and those of the tier `docs` run.

A comment before a block of commands names its tier, `<!-- run: TIER -->`:

    plan (without a comment): the command's parser and spec accept it
    unit: it runs, in this tier
    docs: it runs, in the tier docs, smaller where SMALLER says so
    rents, install: it is in the list of docs/how-it-works/not-run.md, which says what is run in its place
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from raystill.platform import cli
from raystill.search.commands import SEARCHES

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "docs/start.md",
    *sorted((ROOT / "docs/tutorials").glob("*.md")),
    *sorted((ROOT / "docs/guides").glob("*.md")),
]
TIERS = ("plan", "unit", "docs", "rents", "install")
SPECS = ("distill", "pretrain", "kd", "search temperature", "search nas", "search tune", "search card")
"""Commands that print their spec with --print-config."""
SMALLER = {
    "distill": "--outer.steps 4 --validation.every 2 --validation.networks 1 --assess.networks 1 "
    "--assess.baselines false --run.workers 1 --tracking.enabled false",
    "kd": "--run.seeds 1 --tracking.enabled false",
}
"""What the tier docs adds to a command that starts from a recipe."""


class Command(NamedTuple):
    """A line of a block of commands."""

    page: str
    tier: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """`distill`, `search nas`, `ray up`."""
        first, *rest = self.words
        if first != "raystill":
            return " ".join(self.words[:2])
        return " ".join(rest[:2] if rest[0] in ("search", "cluster") else rest[:1])


def commands() -> list[Command]:
    """Every line of every block of commands, a chain by && being several."""
    every = []
    for page in PAGES:
        tier = "plan"
        block = False
        for line in page.read_text().splitlines():
            if comment := re.fullmatch(r"<!-- run: (\w+).*-->", line):
                tier = comment[1]
                assert tier in TIERS, f"{page.name}: {line}"
            elif line.startswith("```"):
                block = line == "```bash"
                tier = tier if block else "plan"
            elif block:
                for part in line.split(" && "):
                    words = shlex.split(part, comments=True)
                    words = words[: words.index(">")] if ">" in words else words
                    if words:
                        every.append(Command(page.name, tier, tuple(words)))
    return every


COMMANDS = commands()


def texts(command: Command) -> str:
    return f"{command.page}: {' '.join(command.words)[:70]}"


def listed() -> list[str]:
    page = (ROOT / "docs/how-it-works/not-run.md").read_text()
    return re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)


def test_the_pages_have_commands() -> None:
    assert len(COMMANDS) > 60
    assert {command.page for command in COMMANDS} >= {"README.md", "start.md", "search.md"}


def test_what_is_not_run_stands_in_the_list() -> None:
    names = {
        " ".join(command.words[:2])
        for command in COMMANDS
        if command.tier in ("rents", "install") or command.words[0] in ("ray", "pip", "kubectl")
    }
    allowed = {"python -m", "raystill distill", "raystill cluster"}
    assert not names - set(listed()) - allowed


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c.words[0] == "raystill"], ids=lambda command: texts(command)
)
def test_a_command_is_accepted(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    words = list(command.words[1:])
    assert words[0] in cli.COMMANDS
    if words[0] == "search":
        assert words[1] in SEARCHES
    assert not cli_code([*command.name.split(), "--help"])
    page = capsys.readouterr().out
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        if command.name not in ("submit",):
            assert option in page, f"{option} is no option of raystill {command.name}"
    if command.name in SPECS and "--config" not in words and not {"--help", "--print-config"} & set(words):
        assert not cli_code([*words, "--print-config"])


def cli_code(words: list[str]) -> int:
    try:
        return cli.main(words)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.tier == "unit"], ids=lambda command: texts(command))
def test_a_short_command_runs(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert cli_code(list(command.words[1:])) == 0


@pytest.mark.docs
@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", sorted({c.page for c in COMMANDS if c.tier == "docs"}))
def test_a_pages_commands_run_one_after_another(page: str, tmp_path: Path) -> None:
    for command in COMMANDS:
        if command.page != page or command.tier != "docs":
            continue
        added = SMALLER.get(command.name, "").split() if "--config" not in command.words else []
        line = [sys.executable, "-m", "raystill.platform.cli", *command.words[1:], *added]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{texts(command)}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
