"""Reads an architecture's text from left to right, and says where it stops making sense."""

from __future__ import annotations

import re
from collections.abc import Iterable


class Parser:
    """A text and a place in it."""

    def __init__(self, text: str, at: int = 0) -> None:
        self.text, self.at = text, at

    def fail(self, expected: str) -> ValueError:
        """The error of this place: one line with the text, the place (characters from 1) and what would do."""
        rest = self.text[self.at : self.at + 12]
        return ValueError(
            f"architecture {self.text!r} does not parse at character {self.at + 1} "
            f"({repr(rest) if rest else 'its end'}): expected {expected}"
        )

    def take(self, *words: str) -> str:
        """The longest of some words that stands here.

        Raises:
            ValueError: none of them does.
        """
        return self.word(words)

    def word(self, words: Iterable[str]) -> str:
        """The same, of any collection of words."""
        words = list(words)
        for word in sorted(words, key=len, reverse=True):
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return word
        raise self.fail(" or ".join(repr(w) for w in words) if len(words) < 3 else f"one of {', '.join(words)}")

    def number(self, most: int) -> int:
        """A whole number from 1 to `most`.

        Raises:
            ValueError: there is none here, or it is larger.
        """
        found = re.compile(r"[1-9]\d*").match(self.text, self.at)
        if found is None or int(found[0][:9]) > most:
            raise self.fail(f"a whole number from 1 to {most}")
        self.at = found.end()
        return int(found[0])

    def end(self) -> None:
        """Nothing more.

        Raises:
            ValueError: something is left.
        """
        if self.at < len(self.text):
            raise self.fail("its end")


def scale(parser: Parser, channels: int, cells: int) -> tuple[int, int]:
    """Channels and cells of each stage from an `@c8n1` at the end; the given ones where there is none.

    Raises:
        ValueError: what is left of the text is something else.
    """
    if parser.at < len(parser.text):
        parser.take("@c")
        channels = parser.number(512)
        parser.take("n")
        cells = parser.number(20)
    parser.end()
    return channels, cells
