"""The commands of README and guides: each is taken by its parser, and those of the tier `docs` run.

A comment before a block of commands names its tier, `<!-- run: TIER -->`:

    plan (without a comment): the command's parser and spec accept it
    unit: it runs, in this tier
    docs: it runs in the tier docs, in the page's order, smaller where SMALLER says so
    rents, install: it is in the list of docs/how-it-works/not-run.md, which says what is run in its place; `raystill
        distill` beside an install command runs as those of docs

Python blocks of start, the tutorials and the guides in PYTHON run where they stand among the commands.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
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
ASSESSED = "--assess.networks 1 --assess.baselines false"
SMALLER = {
    "distill": f"--outer.steps 4 --validation.every 2 --validation.networks 1 {ASSESSED} --run.workers 0",
    "kd": "--run.seeds 1 --train.steps 20",
    "search temperature": "--search.seeds 1 --search.assess 1 --search.temperatures 1,4 --search.alphas 0.5,1 "
    "--student.training.steps 27 --teacher.training.steps 50 --run.workers 0",
    "search nas": "--candidates 6 --generation 3 --retrain 1 --networks 1 --run.workers 0",
    "search card": "--resamples 100 --networks 1 --run.workers 0",
}
"""What the tier docs adds to a command, by its name."""
SMALLER_PYTHON = {
    '"outer": {"steps": 40},': '"outer": {"steps": 2}, "validation": {"networks": 1}, "run": {"workers": 0}, '
    '"assess": {"networks": 1, "baselines": False},',
}
"""What the tier docs puts in place of a piece of a Python block."""
BEFORE = {"guides/export.md": ("raystill", "distill", "--recipe", "digits")}
"""What a page takes for granted."""
PYTHON = (
    "start.md",
    "tutorials/own-images.md",
    "tutorials/own-network.md",
    "guides/students.md",
    "guides/objectives.md",
    "guides/export.md",
)
LONG = ("tutorials/gtn-and-search.md",)
"""Pages that the nightly job alone runs."""


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


class Program(NamedTuple):
    """A Python block."""

    page: str
    text: str


def blocks(page: Path) -> Iterator[Command | Program]:
    """The commands and programs of a page in their order; a chain by && is several commands."""
    name = page.name if page.parent == ROOT else page.relative_to(ROOT / "docs").as_posix()
    tier, lines = "plan", iter(page.read_text().splitlines())
    for line in lines:
        if comment := re.fullmatch(r"<!-- run: (\w+) -->", line):
            tier = comment[1]
            assert tier in TIERS, f"{page.name}: {line}"
        elif line.startswith("```"):
            inside = list(itertools.takewhile(lambda inner: inner != "```", lines))
            if line == "```python":
                yield Program(name, "\n".join(inside))
            elif line == "```bash":
                for part in itertools.chain.from_iterable(one.split(" && ") for one in inside):
                    words = shlex.split(part, comments=True)
                    words = words[: words.index(">")] if ">" in words else words
                    if words:
                        yield Command(name, tier, tuple(words))
            tier = "plan"


BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = [block for block in BLOCKS if isinstance(block, Command)]


def texts(command: Command) -> str:
    return f"{command.page}: {' '.join(command.words)[:70]}"


def listed() -> list[str]:
    page = (ROOT / "docs/how-it-works/not-run.md").read_text()
    return re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)


def test_the_pages_have_commands() -> None:
    assert len(COMMANDS) > 60
    assert {command.page for command in COMMANDS} >= {"README.md", "start.md", "guides/search.md"}


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


def runs(block: Command | Program) -> bool:
    """Whether the tier docs runs a block."""
    if isinstance(block, Program):
        return block.page in PYTHON
    return block.tier == "docs" or (block.tier == "install" and block.words[:2] == ("raystill", "distill"))


@pytest.mark.docs
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.long] if page in LONG else [])
        for page in sorted({block.page for block in BLOCKS if runs(block)})
    ],
)
def test_a_pages_commands_run_one_after_another(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    every: list[Command | Program] = [block for block in BLOCKS if block.page == page and runs(block)]
    if page in BEFORE:
        every.insert(0, Command(page, "docs", BEFORE[page]))
    names: dict[str, object] = {}
    for block in every:
        if isinstance(block, Program):
            text = block.text
            for piece, smaller in SMALLER_PYTHON.items():
                text = text.replace(piece, smaller)
            exec(text, names)
        else:
            print(f"$ {' '.join(block.words)}", flush=True)
            assert cli_code([*block.words[1:], *SMALLER.get(block.name, "").split()]) == 0, texts(block)
