"""What a person sees while a run goes on: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Show(Protocol):
    """One loop's progress."""

    def __call__(self, done: int, **figures: str) -> None:
        """Report how many steps are done and the figures of the moment."""


def _plain(title: str, total: int, already: int) -> Show:
    began = last = time.monotonic()

    def show(done: int, **figures: str) -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < 5.0:
            return
        last = now
        left = (now - began) / max(done - already, 1) * (total - done)
        text = "  ".join(f"{k.replace('_', ' ')} {v}" for k, v in figures.items())
        print(f"{title} {done}/{total}  {text}  left {left:.0f} s", flush=True)

    return show


@contextmanager
def progress(title: str, total: int, already: int = 0) -> Iterator[Show]:
    """A progress display for `total` steps, of which `already` were done before."""
    if not sys.stdout.isatty():
        yield _plain(title, total, already)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
               TextColumn("{task.fields[figures]}"), TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=total, completed=already, figures="")

        def show(done: int, **figures: str) -> None:
            text = "  ".join(f"[dim]{k.replace('_', ' ')}[/] {v}" for k, v in figures.items())
            bar.update(task, completed=done, figures=text)

        yield show
