"""Commands as jobs on a cluster with a token; and every way in which that can not work, in one line each."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raystill.actors.launch import submit
from raystill.platform import cli

TOKEN = "3e1b5d0c9f7a4d26a8c05b7e14f96d32"
WRONG = "ffffffffffffffffffffffffffffffff"


def raystill(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raystill.platform.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150, check=False)


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.timeout(420)
def test_a_command_runs_on_a_cluster_with_a_token(start_head: Callable[..., Any], tmp_path: Path) -> None:
    held = tmp_path / "token"
    held.write_text(TOKEN + "\n")
    head = start_head("--num-cpus=2", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(held))
    # as a user's machine is: no RAY_AUTH_MODE, a token in the home folder
    home = tmp_path / "home" / ".ray"
    home.mkdir(parents=True)
    (home / "auth_token").write_text(TOKEN)
    mine = {k: v for k, v in head.environment.items() if not k.startswith("RAY_AUTH")} | {"HOME": str(home.parent)}

    done = raystill("submit", "--address", head.jobs, "recipes", environment=mine)
    assert done.returncode == 0, done.stderr
    assert "mnist-fixed-10" in done.stdout
    job = done.stdout.split()[1]
    assert f"raystill submit --address {head.jobs} --follow {job}" in done.stdout.splitlines()[0]

    again = raystill("submit", "--address", head.jobs, "--follow", job, environment=mine)
    assert again.returncode == 0
    assert again.stdout.splitlines() == done.stdout.splitlines()[1:]

    failed = raystill("submit", "--address", head.jobs, "report", "no such folder", environment=mine)
    assert failed.returncode == 2
    assert "no such folder" in failed.stdout
    assert "Traceback" not in failed.stderr

    # Ctrl-C leaves the job running, and whoever follows it again sees its end
    text = (
        "distill --run.out runs --run.workers 1 --outer.steps 200 --outer.members 2 --synthesizer.epochs 1 "
        "--learner.name mlp --assess.networks 2 --assess.baselines false --validation.networks 2 "
        "--tracking.enabled false"
    )
    command = [sys.executable, "-m", "raystill.platform.cli", "submit", "--address", head.jobs, *text.split()]
    with subprocess.Popen(command, env=mine, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        job = following.stdout.readline().split()[1]
        following.stdout.readline()
        following.send_signal(signal.SIGINT)
        assert following.wait(30) == 130
        assert f"--follow {job}" in following.stderr.read()
    ended = raystill("submit", "--address", head.jobs, "--follow", job, environment=mine)
    assert ended.returncode == 0, ended.stdout
    assert "done in" in ended.stdout
    # a job's own folder is the one in which `ray start` was called
    assert list((head.log.parent / "runs").glob("*/artefact/data.parquet"))

    (home / "auth_token").write_text(WRONG)
    refused = raystill("submit", "--address", head.jobs, "recipes", environment=mine)
    (home / "auth_token").unlink()
    missing = raystill("submit", "--address", head.jobs, "recipes", environment=mine)
    for answer, says in ((refused, "refuses our token"), (missing, "asks for a token, and we have none")):
        assert answer.returncode == 2
        assert answer.stdout == ""
        (line,) = answer.stderr.strip().splitlines()
        assert line.startswith(f"raystill submit: error: the cluster at {head.jobs} {says}")
        assert "RAY_AUTH_TOKEN_PATH" in line

    unknown = raystill(
        "submit", "--address", head.jobs, "--follow", "nosuchjob", environment=mine | {"RAY_AUTH_TOKEN": TOKEN}
    )
    assert unknown.returncode == 2
    assert unknown.stderr.strip() == "raystill submit: error: --follow: the cluster knows no job 'nosuchjob'"

    for answer in (done, again, failed, ended, refused, missing, unknown):
        assert TOKEN not in answer.stdout + answer.stderr
        assert WRONG not in answer.stdout + answer.stderr
    assert TOKEN not in head.log.read_text()


@pytest.fixture
def other_server() -> Iterator[str]:
    """Something that is no Ray."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["submit", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line.removeprefix("raystill submit: error: ")


def test_what_can_not_be_submitted(capsys: pytest.CaptureFixture[str], other_server: str) -> None:
    assert refusal(capsys) == "give either a raystill command to run, or --follow JOB_ID"
    assert refusal(capsys, "--follow", "x", "doctor").startswith("give either")
    assert "no command to submit: 'distil'; did you mean 'distill'?" in refusal(capsys, "distil")
    assert "no command to submit: 'submit'" in refusal(capsys, "submit", "doctor")
    assert "is no job server's address" in refusal(capsys, "--address", "ray://head:10001", "doctor")
    assert "no Ray cluster answers at http://127.0.0.1:9" in refusal(capsys, "--address", "127.0.0.1:9", "doctor")
    assert "is no Ray job server" in refusal(capsys, "--address", other_server, "doctor")
    line = refusal(capsys, "--address", "http://me:hunter2@127.0.0.1:9", "doctor")
    assert "hunter2" not in line


def test_the_token_is_taken_from_where_ray_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_AUTH")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert submit.token() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("at home\n")
    assert submit.token() == "at home"
    (tmp_path / "elsewhere").write_text("elsewhere")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "elsewhere"))
    assert submit.token() == "elsewhere"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert submit.token() == "given"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert submit.token() is None
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "absent"))
    with pytest.raises(ValueError, match=r"RAY_AUTH_TOKEN_PATH: .*absent can not be read"):
        submit.token()
