"""Spaces of architectures: draw, mutate, write, parse, count, picture and build them."""

from raystill.platform.architectures.registry import SPACES, base, network, parse, space
from raystill.platform.architectures.spaces import Arch, Space

__all__ = ["SPACES", "Arch", "Space", "base", "network", "parse", "space"]
