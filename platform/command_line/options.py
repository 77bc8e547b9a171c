"""A typed spec from the command line: recipe < file < options.

docs/how-it-works/command-line.md says why pydantic-settings is used.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict

from raystill.platform import registry, runs
from raystill.platform.cli import Parser
from raystill.platform.recipes import of, recipe

Spec = TypeVar("Spec", bound=BaseModel)


def merge(into: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings, the newer winning leaf by leaf."""
    both = {
        k: merge(into[k], new[k])
        for k in into.keys() & new.keys()
        if isinstance(into[k], dict) and isinstance(new[k], dict)
    }
    return {**into, **new, **both}


def _parse(parser: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> argparse.Namespace:
    done, unknown = parser.parse_known_args(args, namespace)
    if unknown:
        word = unknown[0].split("=")[0]
        whole = word.partition(".")[0]
        if "dict[" in str(getattr(parser._option_string_actions.get(whole), "metavar", "")):
            raise ValueError(f"unknown option {word}: {whole} takes a whole mapping; for a part give YAML by --config")
        raise ValueError(f"unknown option {word}{_hint(registry.closest(word, parser._option_string_actions))}")
    return cast(argparse.Namespace, done)


PLACEHOLDERS = {"str": "TEXT", "int": "INT", "float": "NUMBER", "bool": "BOOL", "Path": "PATH", "ByteSize": "SIZE"}
"""Type of a field -> how the help writes its value."""


def _placeholder(metavar: str) -> str:
    """`TEXT,...` of `tuple[str,...]`, `INT|TEXT` of `{int,str}`."""
    text = re.sub(r"\b\w+\b", lambda word: PLACEHOLDERS.get(word[0], word[0]), metavar)
    text = re.sub(r"^(?:tuple|list)\[(.*)\]$", r"\1", text)
    return text[1:-1].replace(",", "|") if re.fullmatch(r"\{[A-Z,]+\}", text) else text


def parser_of(
    model: type[BaseModel], command: str, text: str
) -> tuple[argparse.ArgumentParser, type[BaseSettings], Any]:
    """The command's parser, the settings class behind it, and pydantic-settings' source."""

    class Settings(model, BaseSettings):  # type: ignore[misc, valid-type]
        model_config = SettingsConfigDict(cli_avoid_json=True, cli_parse_none_str="none", cli_hide_none_type=True)

        @classmethod
        def settings_customise_sources(  # type: ignore[override]
            cls, settings_cls: Any, init_settings: Any, **others: Any
        ) -> Any:
            return (init_settings,)  # no field may come from the environment unseen

    parser = Parser(prog=f"raystill {command}", description=text, allow_abbrev=False)
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with a spec; options win over it")
    parser.add_argument("--print-config", action="store_true", help="print the whole spec as YAML and stop")
    source: Any = CliSettingsSource(Settings, cli_parse_args=False, root_parser=parser, parse_args_method=_parse)
    for action in parser._actions:  # choices come as a metavar, which shell completion does not read
        metavar = str(action.metavar)
        if isinstance(action.help, str):
            action.help = action.help.replace("(default: None)", "(default: none)").replace(
                "(default: ())", "(default: none)"
            )
        if metavar.startswith("{") and not {"none", "int", "str"} & set(metavar[1:-1].split(",")):
            action.choices, action.metavar = metavar[1:-1].split(","), None
        elif isinstance(action.metavar, str) and "dict[" not in metavar:
            action.metavar = _placeholder(metavar)
        if action.dest == "recipe":
            action.choices = sorted(of(command))
            action.metavar = "NAME"
    return parser, Settings, source


def _read(path: Path, command: str) -> dict[str, Any]:
    """A file's sections; raises ValueError where it can not be read or says that it is another command's."""
    try:
        fields = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise ValueError(f"--config: {path} can not be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"--config: {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"--config: {path} holds no mapping of sections")
    if (owner := fields.pop("command", command)) != command:
        raise ValueError(f"--config: {path} is for `raystill {owner}`, and this is `raystill {command}`")
    return fields


def load(
    model: type[Spec], command: str, text: str, argv: list[str], base: Mapping[str, Any] | None = None,
    default: str | None = None, extend: Callable[[argparse.ArgumentParser], None] | None = None,
) -> tuple[Spec, argparse.Namespace]:  # fmt: skip
    """The spec that a command line asks for.

    Args:
        base: what lies under recipe, file and options.
        default: recipe that is taken where neither recipe nor file is given.
        extend: adds the command's positional arguments.

    Raises:
        ValueError: one line a mistake; the key in dotted form, with the nearest valid one.
        SystemExit: `--help` and `--print-config` have printed.
    """
    parser, settings, source = parser_of(model, command, text)
    if extend:
        extend(parser)
    arguments = "".join(f" {action.metavar or action.dest}" for action in parser._actions if not action.option_strings)
    recipes = " [--recipe NAME]" if "recipe" in model.model_fields else ""
    parser.usage = f"raystill {command}{arguments} [--config FILE]{recipes} [--OPTION VALUE ...]"
    if {"-h", "--help"} & set(argv):
        parser.print_help()
        sys.exit(0)
    name = next((argv[i + 1] for i, a in enumerate(argv[:-1]) if a == "--recipe"), None)
    name = next((a.split("=", 1)[1] for a in argv if a.startswith("--recipe=")), name)
    mine = of(command)
    if name is not None and name not in mine:
        raise ValueError(f"--recipe: unknown {name!r}; {registry.nearest(name, mine)}")
    args = _parse(parser, argv)
    file = _read(args.config, command) if args.config else {}
    named = file.get("recipe") if "recipe" in model.model_fields else None
    if named is not None and str(named) not in mine:
        raise ValueError(f"--config: unknown recipe {named!r}; {registry.nearest(str(named), mine)}")
    if name and named and name != named:
        raise ValueError(f"--recipe {name} and the recipe {named} of --config contradict each other; give one of them")
    name = name or named or (None if args.config else default)
    merged = merge({}, base or {})
    if name:
        merged = merge(merged, {**recipe(name), "recipe": name})
    merged = merge(merged, file)
    try:
        done = settings(_cli_settings_source=source(parsed_args=args), **merged)
        spec = model.model_validate(done.model_dump())
    except ValidationError as error:
        raise ValueError("; ".join(_line(e, list(parser._option_string_actions)) for e in _own(error))) from None
    if args.print_config:
        print(runs.dump(spec, command), end="")
        sys.exit(0)
    return spec, args


def _hint(close: str | None) -> str:
    return f"; did you mean {close}?" if close else ""


def _own(error: ValidationError) -> list[Any]:
    """The mistakes, without a list's that it is too short, where that is so because an item is wrong."""
    errors = error.errors()
    inner = {e["loc"][:-1] for e in errors}
    return [e for e in errors if not (e["type"] == "too_short" and e["loc"] in inner)]


def _line(error: Any, options: list[str]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key{_hint(registry.closest(key, [option.lstrip('-') for option in options]))}"
    if not key or message.startswith(key.split(".")[0] + "."):
        return str(message)
    given = f" (given: {error['input']!r})" if not isinstance(error["input"], dict) else ""
    return f"{key}: {message[0].lower()}{message[1:]}{given}"
