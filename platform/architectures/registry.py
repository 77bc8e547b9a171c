"""Finds spaces, architectures and networks by their names and texts."""

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
"""Spaces by name, with their default options, for `search nas --space`, `learner.name` and `learner.draw`."""


def base(name: str) -> str:
    """A space's name without its scale."""
    return name.partition("@")[0]


def space(
    name: str, plugins: registry.Plugins | None = None, field: str = "space", beside: Iterable[str] = ()
) -> Space:
    """Look a space up by its name, which may have a scale, as `cell@c16n3` has: 16 channels, 3 cells in each stage.

    Args:
        plugins: the caller's own spaces, which win over the built-in ones.
        field: dotted name of the spec's field, for the error.
        beside: further values that the field takes in place of a space, which the error lists.

    Raises:
        ValueError: no space has that name, its part is not a `Space`, or it has no such scale.
    """
    bare = base(name)
    if bare in beside:
        raise ValueError(f"{field}: {bare} is no space and has no scale; remove the @")
    part = registry.resolve("spaces", bare, {**dict.fromkeys(beside), **SPACES}, plugins, field)
    if not isinstance(part, Space):
        raise ValueError(f"{field}: {bare!r} is {type(part).__name__}, not a raystill.platform.architectures.Space")
    if bare == name:
        return part
    if part.scaled is None:
        raise ValueError(f"{field}: {bare} has no scale, since its texts have width and depth; remove the @")
    parser = Parser(name, len(bare))
    try:
        channels, runs = scale(parser, 1, 1)
    except ValueError as error:
        raise ValueError(str(error).replace("architecture", f"{field}:", 1)) from None
    return part.scaled(channels, runs)


def parse(text: str, plugins: registry.Plugins | None = None) -> Arch:
    """The architecture of a text of any space.

    Raises:
        ValueError: no such space, or the text does not parse.
    """
    return space(text.partition(":")[0], plugins).parse(text)


def network(text: str, plugins: registry.Plugins | None = None, field: str = "learner.name") -> Network:
    """The network of a text, `space:architecture`, as a function of (shape, classes, width, depth).

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
                raise ValueError(f"learner.{name}: {arch.text!r} has its own {name}; remove learner.{name}")
        return arch.build(shape, classes)

    return make
