"""The commit log: one row for each try at an item and each outer step, as Arrow IPC streams.

Every session of a run writes a segment of its own, so nothing is ever rewritten; a segment that a crash tore is read up
to its last whole batch. Checkpoints, curves, tracking and reports read this one log.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from raystill.actors.messages import Outcome, WorkItem
from raystill.platform.seeds import Address

ENTERED = pa.list_(
    pa.struct([("step", pa.int64()), ("member", pa.int64()), ("version", pa.int64()), ("weight", pa.float64())])
)
SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("seed", pa.int64()),
        ("attempt", pa.int64()),
        ("step", pa.int64()),
        ("member", pa.int64()),
        ("stream", pa.string()),
        ("version", pa.int64()),
        ("evaluator", pa.int64()),
        ("status", pa.string()),
        ("seconds", pa.float64()),
        ("cpu_seconds", pa.float64()),
        ("time_ms", pa.int64()),
        ("numbers", pa.map_(pa.string(), pa.float64())),
        ("error", pa.string()),
        ("entered", ENTERED),  # what an applied step was made of
    ]
)


class CommitLog:
    """Writes one segment; rows wait in memory until `flush`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(p.stem) for p in folder.glob("*.arrows")), default=-1)
        self._file = pa.OSFile(str(folder / f"{number:06d}.arrows"), "wb")
        self._writer = pa.ipc.new_stream(self._file, SCHEMA)
        self._rows: list[dict[str, Any]] = []
        self._flushed = time.monotonic()

    def item(self, outcome: Outcome) -> int:
        """A try at a work item; returns its time in ms."""
        item = outcome.item
        return self._add(kind=item.kind, **item.address._asdict(), version=item.version, evaluator=outcome.evaluator,
                         status=outcome.status, seconds=outcome.seconds, cpu_seconds=outcome.cpu_seconds,
                         numbers=list(outcome.numbers.items()), error=outcome.error, entered=None)  # fmt: skip

    def step(self, address: Address, seconds: float, numbers: dict[str, float], items: Sequence[WorkItem] = ()) -> int:
        """Write a row for an applied outer step.

        Args:
            address: of the step.
            seconds: since the step before.
            numbers: what was measured, such as `meta_loss`.
            items: those whose results entered the step.

        Returns:
            The row's time, in ms since 1970.
        """
        entered = [
            {"step": i.address.step, "member": i.address.member, "version": i.version, "weight": 1.0} for i in items
        ]
        return self._add(kind="apply", **address._asdict(), version=address.step, evaluator=-1, status="ok",
                         seconds=seconds, cpu_seconds=0.0, numbers=list(numbers.items()), error="",
                         entered=entered)  # fmt: skip

    def event(self, kind: str, address: Address, text: str, evaluator: int = -1, seconds: float = 0.0) -> None:
        """Write a row for an event of the run: an injected fault, a new server, a checkpoint.

        Args:
            kind: `fault`, `server`, `checkpoint`, `rollback` or `donor`.
            address: names the outer step at which it happened.
            text: what happened.
            evaluator: number of the evaluator that it befell; -1 for none.
            seconds: that it took.
        """
        self._add(kind=kind, **address._asdict(), version=address.step, evaluator=evaluator, status="event",
                  seconds=seconds, cpu_seconds=0.0, numbers=[], error=text, entered=None)  # fmt: skip
        self.flush()

    def _add(self, **row: Any) -> int:
        now = int(time.time() * 1000)
        self._rows.append({**row, "time_ms": now})
        if time.monotonic() - self._flushed > 2.0:
            self.flush()
        return now

    def flush(self) -> None:
        """Write what waits as one batch."""
        if self._rows:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, SCHEMA))
            self._rows.clear()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush and end the segment."""
        self.flush()
        self._writer.close()
        self._file.close()


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            yield from reader
    except pa.ArrowInvalid:  # torn by a crash: all whole batches before the tear were given
        return
    except OSError:
        return


def read(folder: Path) -> pa.Table:
    """All rows of a run in the order in which they were written."""
    batches = [b for path in sorted(folder.glob("*.arrows")) for b in _batches(path)]
    return pa.Table.from_batches(batches, SCHEMA)
