"""MLflow, through one writer with an explicit run id; a store that is lost never costs the run.

Only the first contact may fail loudly. From then on a failure is counted, what was to be written is kept up to a
bound and written at a later flush, after a look at what the store holds, so that nothing is written twice. What a
session could not write at all, a later one takes from the run's own record: `catch_up`.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raystill.platform.files.redaction import redacted
from raystill.platform.spec import TrackingSpec
from raystill.platform.tracking.store import address, later, new_run, opened, quiet, reachable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

__all__ = ["Tracker", "flatten", "reachable"]

MOST_METRICS = 1000  # of one log_batch; MLflow's limit
MOST_PARAMS = 100  # of one log_batch; MLflow's limit
MOST_KEYS = 1000  # params of one run
LONGEST_KEY, LONGEST_VALUE = 250, 6000
MOST_WAITING = 100_000  # metrics kept while the store is away, about 30 MB


class Tracker:
    """One MLflow run. Made by `start`; a disabled one takes everything and writes nothing.

    Attributes:
        uri: the store, credentials taken out.
        failures: calls to the store that failed.
        trouble: what the last of them said, on one line.
        dropped: metrics and files given up because too many were waiting; `finish` then says False.
    """

    def __init__(self, client: MlflowClient | None = None, run_id: str = "", uri: str = "") -> None:
        self._client, self._id, self.uri = client, run_id, uri
        self.failures = self.dropped = 0
        self.trouble = ""
        self._waiting: list[Metric] = []
        self._files: list[tuple[Path, str | None]] = []
        self._seen: dict[str, set[int]] = {}  # steps of each key that the store holds or is about to
        self._unsure = False  # a failed call may have been carried out
        self._not_before = self._gone_until = 0.0

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run, None when disabled."""
        return self._id or None

    @classmethod
    def start(
        cls,
        spec: TrackingSpec,
        run_name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str] | None = None,
        resume: str | None = None,
    ) -> Tracker:
        """Open the store and makes a run, or takes one up again.

        Args:
            spec: where to, or not at all.
            run_name: what MLflow shows.
            params: nested mapping, the resolved spec; logged with dotted names.
            tags: written as they are, but for what looks like a secret.
            resume: id of the run to go on with; points that it has are not logged again.

        Raises:
            ValueError: the store can not be reached, or has no such run. A run that is taken up again goes on without
                its store, and is reconciled with it when it is back.
        """
        if not spec.enabled:
            return cls()
        if resume:
            try:
                return cls._opened(spec, run_name, params, tags, resume)
            except ValueError as error:
                if getattr(error.__cause__, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
                    raise
                tracker = cls(later(spec), resume, redacted(address(spec)))
                tracker.failures, tracker._unsure, tracker.trouble = 1, True, str(error)
                return tracker
        return cls._opened(spec, run_name, params, tags, None)

    @classmethod
    def _opened(
        cls, spec: TrackingSpec, run_name: str, params: Mapping[str, Any], tags: Mapping[str, str] | None,
        resume: str | None,
    ) -> Tracker:  # fmt: skip
        with opened(spec) as (client, uri):
            run_id = resume or new_run(client, spec.experiment, uri, run_name)
            tracker = cls(client, run_id, redacted(uri))
            tracker._describe(params, {**(tags or {}), "mlflow.source.name": "raystill"})
        return tracker

    def log(self, step: int, values: Mapping[str, float], time_ms: int) -> None:
        """Keep metrics for the next flush, without those that the run has at this step already.

        Args:
            time_ms: when the run's record has it. The same point is then the same row to MLflow's databases, which keep
                it once even where the client repeats a call whose answer was lost.
        """
        if self._client is None:
            return
        from mlflow.entities import Metric

        for key, value in values.items():
            seen = self._seen.setdefault(_clean(key), set())
            if step not in seen:
                seen.add(step)
                self._waiting.append(Metric(_clean(key), float(value), time_ms, step))
        self._bound()

    def catch_up(self, record: Iterable[tuple[int, Mapping[str, float], int]]) -> None:
        """Log the part of a run's record that the store lacks.

        Args:
            record: (step, values, time_ms) of everything that the run has measured.
        """
        for point in record if self._client is not None else ():
            self.log(*point)
            if len(self._waiting) >= MOST_METRICS:
                self.flush()

    def image(self, path: Path) -> None:
        """Keep a picture for the next flush, under `images`."""
        self.artifact(path, "images")

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file for the next flush; it is read then."""
        if self._client is not None:
            self._files.append((path, folder))
            self._bound()

    def artifact_dir(self, path: Path, folder: str | None = None) -> None:
        """Keep a folder with all its files for the next flush."""
        self.artifact(path, folder or path.name)

    def flush(self, force: bool = False) -> bool:
        """Write the metrics and files that wait.

        Args:
            force: False leaves a store alone that failed a moment ago, so that a slow failure costs a run at most a
                tenth of its time.

        Returns:
            Whether nothing waits any more.
        """
        if self._client is None:
            return True
        if not force and time.monotonic() < self._not_before:
            return False
        if not self._attempt(self._send_metrics):
            return False
        for entry in tuple(self._files):
            sent = self._attempt(self._send_file, *entry)
            self._files.remove(entry)
            if not sent:
                self._files.append(entry)  # last, so that one file that can not be read does not hold up the others
                return False
        return True

    def finish(self, status: str = "FINISHED") -> bool:
        """Write the metrics and files that wait, and end the MLflow run.

        Args:
            status: FINISHED, FAILED or KILLED.

        Returns:
            Whether everything was written.
        """
        if self._client is None:
            return True
        written = self.flush(force=True)
        return self._attempt(self._client.set_terminated, self._id, status) and written and not self.dropped

    def lose(self, seconds: float = 5.0) -> None:
        """An injected fault: every call fails for this long, as if the store was gone."""
        self._gone_until = time.monotonic() + seconds

    def _describe(self, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Params and tags that the run lacks, and the steps that it has."""
        from mlflow.entities import Param, RunTag

        assert self._client is not None
        run = self._client.get_run(self._id)
        self._client.update_run(self._id, status="RUNNING")
        plain = {key: value for key, value in flatten(params).items() if key not in run.data.params}
        pairs = [Param(key, value) for key, value in plain.items()]
        named = [RunTag(_clean(key), redacted(str(value), key)[:LONGEST_VALUE]) for key, value in tags.items()]
        for start in range(0, max(len(pairs), 1), MOST_PARAMS):
            batch = pairs[start : start + MOST_PARAMS]
            self._client.log_batch(self._id, params=batch, tags=named if start == 0 else ())
        self._seen = {key: self._steps(key) for key in run.data.metrics}

    def _steps(self, key: str) -> set[int]:
        assert self._client is not None
        return {metric.step for metric in self._client.get_metric_history(self._id, key)}

    def _reconcile(self) -> None:
        """Drops from what waits all that the store holds: a call that failed here may have arrived there."""
        stored = {key: self._steps(key) for key in {metric.key for metric in self._waiting}}
        self._waiting = [metric for metric in self._waiting if metric.step not in stored[metric.key]]
        self._unsure = False

    def _send_metrics(self) -> None:
        assert self._client is not None
        if self._unsure and self._waiting:
            self._reconcile()
        while self._waiting:
            batch = self._waiting[:MOST_METRICS]
            self._client.log_batch(self._id, metrics=batch)
            del self._waiting[: len(batch)]

    def _send_file(self, path: Path, folder: str | None) -> None:
        assert self._client is not None
        send = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        send(self._id, str(path), folder)

    def _attempt(self, call: Callable[..., Any], *arguments: Any) -> bool:
        """Calls the store; a failure is counted and remembered, not raised."""
        start = time.monotonic()
        try:
            if start < self._gone_until:
                raise ConnectionError("an injected fault: the store is gone")
            with quiet():
                call(*arguments)
            return True
        except Exception as error:  # the client of an artifact store brings exceptions of its own, botocore's for one
            now = time.monotonic()
            self.failures, self._unsure, self._not_before = self.failures + 1, True, now + 10 * (now - start)
            self.trouble = redacted(" ".join(str(error).split())[:160])
            logging.getLogger(__name__).debug("tracking: %s", self.trouble)
            return False

    def _bound(self) -> None:
        for waiting in (self._waiting, self._files):
            surplus = len(waiting) - MOST_WAITING
            if surplus > 0:
                del waiting[:surplus]
                self.dropped += surplus


def flatten(params: Mapping[str, Any]) -> dict[str, str]:
    """Nested params as dotted names and short strings; what looks like a secret is blacked out."""
    flat: dict[str, str] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                visit(f"{prefix}.{key}" if prefix else str(key), inner)
        elif len(flat) < MOST_KEYS:
            flat[_clean(prefix)] = redacted(str(value), prefix)[:LONGEST_VALUE]

    visit("", params)
    return flat


def _clean(key: str) -> str:
    return re.sub(r"[^\w./ -]", "_", key, flags=re.ASCII)[:LONGEST_KEY]
