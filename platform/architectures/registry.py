"""Names and texts to spaces, architectures and networks."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from raystill.platform import registry
from raystill.platform.architectures import cells, enas, macro
from raystill.platform.architectures.parser import Parser, scale
from raystill.platform.architectures.spaces import Arch, Space
from raystill.platform.learners import Network
from raystill.platform.learners.networks import Shape

SPACES: dict[str, Space] = {"macro": macro.space(), "cell": cells.space(), "enas": enas.space()}
"""Every space by name, with its usual options: what `search nas --space`, a learner's text and `learner.draw` name."""


def base(name: str) -> str:
    """A space's name without its scale."""
    return name.partition("@")[0]


def space(
    name: str, plugins: registry.Plugins | None = None, field: str = "search.space", beside: Iterable[str] = ()
) -> Space:
    """A space by its name; `cell@c16n3` and `enas@c16n3` say channels and cells themselves.

    Args:
        field: dotted name of the spec's field, for the error.
        beside: what the field takes beside spaces, for the error.

    Raises:
        ValueError: there is none of that name, or it has no such scale.
    """
    bare = base(name)
    known = {**dict.fromkeys(beside), **SPACES}
    found = registry.resolve("spaces", bare, known, plugins, field)
    if not isinstance(found, Space):
        raise ValueError(f"{field}: {bare!r} is {type(found).__name__}, and no raystill.platform.architectures.Space")
    if bare == name:
        return found
    if found.scaled is None:
        raise ValueError(f"{field}: {bare} has no scale, its texts say how wide and deep they are; take @ off")
    parser = Parser(name, len(bare))
    try:
        channels, runs = scale(parser, 1, 1)
    except ValueError as error:
        raise ValueError(str(error).replace("architecture", f"{field}:", 1)) from None
    return found.scaled(channels, runs)


def parse(text: str, plugins: registry.Plugins | None = None) -> Arch:
    """The architecture of a text of any space.

    Raises:
        ValueError: no such space, or the text does not parse.
    """
    return space(text.partition(":")[0], plugins).parse(text)


def network(text: str, plugins: registry.Plugins | None = None, field: str = "learner.name") -> Network:
    """The learner of a text, `space:architecture`.

    Raises:
        ValueError: no such space, or the text does not parse.
    """
    within = space(text.partition(":")[0], plugins, field)
    try:
        arch = within.parse(text)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error

    def make(shape: Shape, classes: int, width: int | None, depth: int | None) -> nn.Module:
        for name, value in (("width", width), ("depth", depth)):
            if value is not None:
                raise ValueError(f"learner.{name}: {arch.text!r} says its own {name}; take learner.{name} out")
        return arch.build(shape, classes)

    return make
