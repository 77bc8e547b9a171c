"""MLflow's store: where it is, its first contact, and how long it may keep a run waiting."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

from raystill.platform.files.redaction import redacted
from raystill.platform.spec import TrackingSpec

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT = "mlflow.parentRunId"
DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
# 120 s and 7 retries are MLflow's own; a run must not wait minutes for a dead server
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}


def reachable(spec: TrackingSpec) -> str:
    """Where runs are tracked, credentials taken out; makes nothing.

    Raises:
        ValueError: the store can not be reached.
    """
    file = _sqlite_file(address(spec))
    if file is not None and not file.exists():
        _reach(address(spec))
        return f"{redacted(address(spec))} (made by the first run)"
    with opened(spec) as (client, uri):
        client.get_experiment_by_name(spec.experiment)
    return redacted(uri)


def found_again(spec: TrackingSpec) -> TrackingSpec:
    """The spec with its default store as an absolute path, so that a resume from another folder finds it.

    A store that the environment names stays out: it may hold a password, and a spec is written to a file.
    """
    if not spec.enabled or spec.uri or os.environ.get("MLFLOW_TRACKING_URI"):
        return spec
    return spec.model_copy(update={"uri": address(spec)})


class _Later:
    """A client that is made when it is first used: making one for a database asks the database."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __getattr__(self, name: str) -> Any:
        from mlflow import MlflowClient

        _reach(self._uri)
        client = MlflowClient(tracking_uri=self._uri)
        self.__dict__.update({n: getattr(client, n) for n in dir(client) if not n.startswith("_")})
        return getattr(client, name)


def later(spec: TrackingSpec) -> MlflowClient:
    """A client of a store that can not be reached now."""
    return cast("MlflowClient", _Later(address(spec)))


def address(spec: TrackingSpec) -> str:
    """The store's URI: the spec's, else the environment's, else a database in the working folder."""
    return spec.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


@contextlib.contextmanager
def opened(spec: TrackingSpec) -> Iterator[tuple[MlflowClient, str]]:
    """The store of a spec at first contact; what goes wrong inside is a ValueError."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    uri = address(spec)
    _reach(uri)
    from mlflow import MlflowClient  # 2.7 s, so only where it is needed
    from mlflow.exceptions import MlflowException

    try:
        with _alone(uri), quiet():
            yield MlflowClient(tracking_uri=uri), uri
    except (MlflowException, OSError) as error:
        line = redacted(" ".join(str(error).split())[:160])
        raise ValueError(
            f"tracking.uri: {redacted(uri)} can not be used: {line}; "
            "name another store, or set tracking.enabled to false"
        ) from error


def new_run(client: MlflowClient, experiment: str, uri: str, name: str) -> str:
    """Make a run, and its experiment where there is none.

    Args:
        client: of the tracking server.
        experiment: name of the experiment.
        uri: address of the store.
        name: of the run.

    Returns:
        The run's id.

    Raises:
        OSError: the experiment is deleted on the server.
    """
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(experiment)
    if known is not None and known.lifecycle_stage != "active":
        raise OSError(f"experiment {experiment!r} is deleted there; restore it or set tracking.experiment")
    if known is not None:
        identity = known.experiment_id
    else:
        file = _sqlite_file(uri)
        # beside the database: MLflow's own choice depends on the folder that a process works in
        place = f"{(file.parent / 'mlruns').as_uri()}/{quote(experiment, safe='')}" if file else None
        try:
            identity = client.create_experiment(experiment, artifact_location=place)
        except MlflowException:
            known = client.get_experiment_by_name(experiment)  # a server's other client may have been faster
            if known is None:
                raise
            identity = known.experiment_id
    return str(client.create_run(identity, run_name=name).info.run_id)


def children(spec: TrackingSpec, parent: str, tag: str) -> dict[str, tuple[str, bool]]:
    """The runs whose parent is `parent`: value of one of their tags -> (id, whether it has ended).

    Raises:
        ValueError: the store can not be reached.
    """
    runs: dict[str, tuple[str, bool]] = {}
    with opened(spec) as (client, _):
        experiment, token = client.get_run(parent).info.experiment_id, None
        while True:
            page = client.search_runs([experiment], f"tags.`{PARENT}` = '{parent}'", page_token=token)
            runs |= {
                run.data.tags[tag]: (str(run.info.run_id), run.info.status not in ("RUNNING", "SCHEDULED"))
                for run in page if tag in run.data.tags
            }  # fmt: skip
            token = page.token
            if not token:
                return runs


def _sqlite_file(uri: str) -> Path | None:
    match = re.match(r"sqlite(?:\+\w+)?:///([^?]+)", uri)
    return Path(match[1]).absolute() if match else None


def _reach(uri: str) -> None:
    """Raises ValueError where MLflow would itself try for minutes: a folder that is not there, a dead database."""
    file, parts = _sqlite_file(uri), urlsplit(uri)
    if file is not None and not (file.parent.is_dir() and os.access(file if file.exists() else file.parent, os.W_OK)):
        raise ValueError(f"tracking.uri: {file} can not be written; name a store in a folder that exists")
    port = DATABASES.get(parts.scheme.split("+")[0])
    if port is not None and parts.hostname:
        try:
            socket.create_connection((parts.hostname, parts.port or port), timeout=5).close()
        except OSError as error:
            raise ValueError(f"tracking.uri: {redacted(uri)} does not answer: {error}") from error


@contextlib.contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Keeps other processes of this machine out of the first contact: two that migrate a fresh sqlite file collide."""
    file = _sqlite_file(uri)
    if file is None:
        yield
        return
    from filelock import FileLock

    # filelock.Timeout is an OSError whose message names the lock file
    with FileLock(f"{file}.lock", timeout=120):
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps a fresh database's migrations and a lost one's tracebacks off the terminal; errors are raised as well."""
    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow.store.db.utils", "urllib3.connectionpool")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
