"""Parses an architecture's text from left to right; errors name the place."""

from __future__ import annotations

import re
from collections.abc import Iterable


class Parser:
    """A text and the position up to which it is parsed."""

    def __init__(self, text: str, at: int = 0) -> None:
        self.text, self.at = text, at

    def fail(self, expected: str) -> ValueError:
        """The error at this position: the text, the character (counted from 1), and what was expected."""
        rest = self.text[self.at : self.at + 12]
        return ValueError(
            f"architecture {self.text!r} does not parse at character {self.at + 1} "
            f"({repr(rest) if rest else 'its end'}): expected {expected}"
        )

    def take(self, *words: str) -> str:
        """Take the longest of some words with which the rest of the text begins.

        Raises:
            ValueError: it begins with none of them.
        """
        return self.word(words)

    def word(self, words: Iterable[str]) -> str:
        """As `take`, for a collection of words."""
        words = list(words)
        for word in sorted(words, key=len, reverse=True):
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return word
        raise self.fail(" or ".join(repr(w) for w in words) if len(words) < 3 else f"one of {', '.join(words)}")

    def number(self, most: int) -> int:
        """Take a whole number from 1 to `most`.

        Raises:
            ValueError: there is none here, or it is larger.
        """
        digits = re.compile(r"[1-9]\d*").match(self.text, self.at)
        if digits is None or int(digits[0][:9]) > most:
            raise self.fail(f"a whole number from 1 to {most}")
        self.at = digits.end()
        return int(digits[0])

    def end(self) -> None:
        """Check that the text ends here.

        Raises:
            ValueError: something is left.
        """
        if self.at < len(self.text):
            raise self.fail("its end")


def scale(parser: Parser, channels: int, cells: int) -> tuple[int, int]:
    """Take channels and cells of each stage, as in `@c8n1`, from the end of a text; without them, the given ones.

    Raises:
        ValueError: the text ends with something else.
    """
    if parser.at < len(parser.text):
        parser.take("@c")
        channels = parser.number(512)
        parser.take("n")
        cells = parser.number(20)
    parser.end()
    return channels, cells
