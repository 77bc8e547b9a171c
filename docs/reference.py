"""A hook of MkDocs: the pages of commands and spec fields, made from the code, and the notebooks as pages."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from raystill.platform import cli
from raystill.platform.command_line import options
from raystill.search.commands import SEARCHES

COPY = Path(tempfile.mkdtemp(prefix="raystill-docs-"))
atexit.register(shutil.rmtree, COPY, ignore_errors=True)
NOTEBOOKS = Path(__file__).parent / "notebooks"


def words() -> list[list[str]]:
    """Every command, as its words after `raystill`."""
    single = [[name] for name in cli.COMMANDS if name not in ("search", "cluster")]
    return [*single, ["cluster", "check"], *(["search", name] for name in SEARCHES)]


def help_of(command: list[str]) -> str:
    """What `raystill COMMAND --help` prints."""
    page = io.StringIO()
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        code = cli.main([*command, "--help"])
        if code:
            raise ValueError(f"raystill {' '.join(command)} --help ends with {code}")
    return page.getvalue().strip()


def commands() -> tuple[str, dict[str, type[BaseModel]]]:
    """The page of commands, and the spec of each command that has one."""
    specs: dict[str, type[BaseModel]] = {}
    original = options.parser_of

    def noted(model: type[BaseModel], command: str, text: str) -> Any:
        specs.setdefault(command, model)
        return original(model, command, text)

    lines = ["# Commands", "", "Each command prints this text with `--help`.", ""]
    columns, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), "96"
    options.parser_of = noted  # type: ignore[assignment]
    try:
        for command in words():
            lines += [f"## raystill {' '.join(command)}", "", "```text", help_of(command), "```", ""]
    finally:
        options.parser_of = original
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return "\n".join(lines), specs


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model that a field's type is, where it is one."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """(dotted name, model) of a spec and of each section in it."""
    yield prefix, model
    for name, field in model.model_fields.items():
        if part := section_of(field.annotation):
            yield from fields(part, f"{prefix}{field.alias or name}.")


def _cell(text: object) -> str:
    line = " ".join(str(text).split())
    return line.replace("|", "\\|").replace("<", "&lt;")


def _type(annotation: Any) -> str:
    """A type as a person writes it: without the bounds that pydantic keeps beside it."""
    if get_origin(annotation) is Annotated:
        return _type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join("none" if part is type(None) else _type(part) for part in get_args(annotation))
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(str(value) for value in get_args(annotation))
    if annotation is Ellipsis:
        return "..."
    if parts := get_args(annotation):
        return f"{get_origin(annotation).__name__}[{', '.join(_type(part) for part in parts)}]"
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return name.removeprefix("typing.")


def table(model: type[BaseModel], prefix: str) -> list[str]:
    """One section's fields as rows."""
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if section_of(field.annotation):
            continue
        default = field.default
        if default is PydanticUndefined:
            default = field.default_factory() if field.default_factory else "required"  # type: ignore[call-arg]
        rows.append(
            f"| `{prefix}{field.alias or name}` | {_cell(_type(field.annotation))} "
            f"| {_cell(json.dumps(default, default=str))} | {_cell(field.description or '')} |"
        )
    return rows if len(rows) > 2 else []


def spec_page(specs: dict[str, type[BaseModel]]) -> str:
    """Every field of every command's spec; a section that several commands share stands once."""
    lines = [
        "# Spec fields",
        "",
        "A spec is a YAML file (`--config FILE`), and every field is an option: `--outer.lr 0.01`.",
        "`raystill COMMAND --print-config` prints the whole spec with its values.",
        "",
    ]
    seen: dict[tuple[str, type[BaseModel]], str] = {}
    for command, model in specs.items():
        lines += [f"## {command}", ""]
        for prefix, section in fields(model):
            title = prefix.rstrip(".") or "top"
            if (prefix, section) in seen:
                lines += [f"`{prefix}*`: as for `{seen[prefix, section]}`.", ""]
                continue
            seen[prefix, section] = command
            rows = table(section, prefix)
            if rows:
                about = " ".join((section.__doc__ or "").split("\n\n")[0].split())
                lines += [f"### {command}: {title}", "", about, "", *rows, ""]
    return "\n".join(lines)


def notebook_page(path: Path) -> str:
    """A notebook's cells as Markdown."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(parts)


@event_priority(100)  # before mkdocstrings reads its options
def on_config(config: Any) -> Any:
    """Give mkdocstrings a copy of the package in which platform/ has the __init__.py that it needs to look inside."""
    COPY.mkdir(parents=True, exist_ok=True)
    shutil.copytree(Path(__file__).parents[1] / "raystill", COPY / "raystill", dirs_exist_ok=True)
    (COPY / "raystill" / "platform" / "__init__.py").touch()
    config["plugins"]["mkdocstrings"].config["handlers"]["python"]["paths"] = [str(COPY)]
    return config


def on_files(files: Files, config: Any) -> Files:
    """MkDocs calls this when it has listed the pages."""
    page, specs = commands()
    made = {"reference/commands.md": page, "reference/specs.md": spec_page(specs)}
    made |= {f"tutorials/{path.stem}.md": notebook_page(path) for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files
