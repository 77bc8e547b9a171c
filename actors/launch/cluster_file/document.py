"""A cluster file as data and as text, with the line of every key and list item."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

LARGEST_BYTES = 1 << 20
LARGEST_NODES = 20_000
DEEPEST = 40


class Finding(NamedTuple):
    """What is wrong on a line of a cluster file, and how to fix it."""

    line: int
    wrong: str
    fix: str


@dataclass(frozen=True)
class ClusterFile:
    """A parsed cluster file.

    Attributes:
        lines: path of keys and list positions, each as text -> line.
    """

    path: Path
    text: str
    data: dict[str, Any]
    lines: dict[tuple[str, ...], int] = field(repr=False)

    def line(self, *keys: object) -> int:
        """The line of a key; where the key is missing, of the nearest key above it."""
        path = tuple(str(key) for key in keys)
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def get(self, *keys: object) -> Any:
        """The value under a path of keys; None where it is missing."""
        value: Any = self.data
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def mapping(self, *keys: object) -> dict[str, Any]:
        """The mapping under a path of keys; empty where there is none."""
        value = self.get(*keys)
        return value if isinstance(value, dict) else {}

    def strings(self, *keys: object) -> list[tuple[int, str]]:
        """The texts of a list, each after its line."""
        value = self.get(*keys)
        items = value if isinstance(value, list) else []
        return [(self.line(*keys, i), item) for i, item in enumerate(items) if isinstance(item, str)]

    def line_of(self, word: str, start: int) -> int:
        """The first line from `start` on that contains a word, for values that are folded over several lines."""
        later = enumerate(self.text.splitlines()[start - 1 :], start)
        return next((number for number, line in later if word in line), start)

    def node_types(self) -> dict[str, dict[str, Any]]:
        """The node types that are mappings, by name."""
        return {k: v for k, v in self.mapping("available_node_types").items() if isinstance(v, dict)}


def read(path: Path) -> tuple[ClusterFile | None, list[Finding]]:
    """Parse a cluster file with YAML's safe loader.

    Returns:
        The file, None where it is not a YAML mapping; and what is wrong with it as YAML.

    Raises:
        ValueError: it can not be read, or is larger than a cluster file ever is.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(LARGEST_BYTES + 1)
        text = raw.decode()
    except OSError as error:
        raise ValueError(f"{path} can not be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8") from None
    if len(raw) > LARGEST_BYTES:
        raise ValueError(f"{path} is larger than {LARGEST_BYTES >> 20} MiB, too large for a cluster file")
    lines: dict[tuple[str, ...], int] = {}
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        findings = list(_walk(root, (), lines, [0])) if root else []
        data = loader.construct_document(root) if root else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        wrong = f"not YAML: {error.problem or error.context}"
        fix = "look for an indentation, a colon or a bracket here or just above"
        return None, [Finding(mark.line + 1 if mark else 1, wrong, fix)]
    except yaml.YAMLError as error:
        return None, [Finding(1, f"not YAML: {' '.join(str(error).split())}", "remove the characters that it names")]
    if not isinstance(data, dict):
        return None, [Finding(1, "no mapping of keys", "start from the cluster.yaml that comes with raystill")]
    return ClusterFile(path, text, data, lines), findings


def _walk(
    node: yaml.Node, path: tuple[str, ...], lines: dict[tuple[str, ...], int], count: list[int]
) -> Iterator[Finding]:
    """Fill `lines`, and find keys that are not text, and keys that stand twice, of which YAML takes the last.

    Raises:
        ValueError: its aliases unfold into too many nodes.
    """
    count[0] += 1
    if count[0] > LARGEST_NODES or len(path) > DEEPEST:
        raise ValueError(f"{'.'.join(path[:3])}: its aliases unfold into too much for a cluster file")
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            lines[(*path, str(i))] = item.start_mark.line + 1
            yield from _walk(item, (*path, str(i)), lines, count)
    if not isinstance(node, yaml.MappingNode):
        return
    merged = [v for k, v in node.value if k.tag == "tag:yaml.org,2002:merge"]
    for value in merged:  # the mapping's own keys override what `<<` merges
        for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            yield from _walk(part, path, lines, count)
    own: dict[str, int] = {}
    for key, value in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        name, line = str(key.value), key.start_mark.line + 1
        if key.tag != "tag:yaml.org,2002:str":
            yield Finding(line, f"the key `{name}` is not text to YAML", f'write it in quotes: "{name}"')
        if name in own:
            yield Finding(
                line, f"`{name}` stands here and on line {own[name]}, and YAML takes the last", "remove one of them"
            )
        own[name] = lines[(*path, name)] = line
        yield from _walk(value, (*path, name), lines, count)
