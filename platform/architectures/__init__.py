"""Spaces of architectures: what can be drawn, changed, written, read, counted, pictured and trained."""

from raystill.platform.architectures.registry import SPACES, base, network, parse, space
from raystill.platform.architectures.spaces import Arch, Space

__all__ = ["SPACES", "Arch", "Space", "base", "network", "parse", "space"]
