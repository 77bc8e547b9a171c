"""Ray heads of a test's own, as processes: for what one shared cluster in this process can not show."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Finds a port that is free now."""
    return _free_port


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@dataclass(frozen=True)
class Head:
    """A head that a test has started."""

    process: subprocess.Popen[bytes]
    address: str  # of the cluster
    jobs: str  # of its job server
    environment: dict[str, str]  # of whoever talks to it
    log: Path

    def tree(self) -> list[int]:
        """The head's process and all below it, as they are now."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended meanwhile
                continue
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def stop(self) -> None:
        """End the head's own processes, one by one: other Ray clusters may run on this machine."""
        below = self.tree()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            below = self.tree()
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(10)


@pytest.fixture
def start_head() -> Iterator[Callable[..., Head]]:
    """Starts `ray start --head`, with a token, options and variables of the test's; ends it after the test."""
    started: list[Head] = []
    folders: list[str] = []

    def start(*options: str, port: int | None = None, **variables: str) -> Head:
        port, jobs = port or _free_port(), _free_port()
        folder = tempfile.mkdtemp(prefix="rs")  # short: Ray puts Unix sockets below it
        folders.append(folder)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        if "RAY_AUTH_MODE" not in variables:
            variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
        environment |= {
            "PATH": f"{BIN}{os.pathsep}{environment['PATH']}", "RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0",
            **variables,
        }  # fmt: skip
        command = [
            str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={jobs}", f"--dashboard-agent-listen-port={_free_port()}",
            f"--ray-client-server-port={_free_port()}", "--min-worker-port=0", "--max-worker-port=0",
            "--object-store-memory=100000000", *options,
        ]  # fmt: skip
        log = Path(folder) / "head.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, env=environment, cwd=folder, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        head = Head(process, f"127.0.0.1:{port}", f"http://127.0.0.1:{jobs}", environment, log)
        started.append(head)
        _await(head, dashboard="--include-dashboard=false" not in options)
        return head

    yield start
    for head in started:
        head.stop()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _await(head: Head, dashboard: bool, seconds: float = 90.0) -> None:
    """Wait until the head answers, be it with a refusal: its job server, or else its control port."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and head.process.poll() is None:
        try:
            if dashboard:
                urllib.request.urlopen(f"{head.jobs}/api/version", timeout=5)
            else:
                host, port = head.address.split(":")
                socket.create_connection((host, int(port)), timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(f"the head did not answer in {seconds:.0f} s:\n{head.log.read_text()[-2000:]}")
