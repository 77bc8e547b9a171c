"""`raystill submit`: run a raystill command as a job on a running Ray cluster, and print its log here."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

from raystill.actors.cluster import token
from raystill.platform.cli import COMMANDS, Parser
from raystill.platform.files.redaction import redacted
from raystill.platform.registry import nearest

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ANSWER_SECONDS = 15.0
"""Seconds that a cluster may take to answer."""

WANTS_TOKEN = (
    "put the cluster's token into ~/.ray/auth_token, or name the file that holds it in RAY_AUTH_TOKEN_PATH "
    "(`ray get-auth-token` on the head prints it)"
)


def _address(given: str | None) -> str:
    """The job server's address: the option, RAY_API_SERVER_ADDRESS, or where `ray dashboard` forwards it.

    Raises:
        ValueError: not an HTTP address.
    """
    address = given or os.environ.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS
    address = (address if "://" in address else f"http://{address}").rstrip("/")
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"--address: {redacted(address)} is no job server's address, such as {DEFAULT_ADDRESS}")
    return address


def _greet(address: str, headers: dict[str, str]) -> None:
    """Check that a Ray job server answers and takes our token, before Ray, which is slow to import.

    Raises:
        ValueError: nothing answers, something else does, or it refuses the token.
    """
    shown = redacted(address)
    try:
        request = urllib.request.Request(f"{address}/api/version", headers=headers)
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            json.loads(answer.read(1 << 16))["ray_version"]
    except urllib.error.HTTPError as error:
        if error.code == 401:
            raise ValueError(f"the cluster at {shown} asks for a token, and we have none; {WANTS_TOKEN}") from None
        if error.code == 403:
            raise ValueError(f"the cluster at {shown} refuses our token; {WANTS_TOKEN}") from None
        raise ValueError(f"--address: the server at {shown} is no Ray job server (HTTP {error.code})") from None
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", None) or error
        raise ValueError(
            f"--address: no Ray cluster answers at {shown} ({reason}); `ray dashboard cluster.yaml` "
            f"forwards a cluster's job server to {DEFAULT_ADDRESS}"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"--address: the server at {shown} is no Ray job server") from None


def client(address: str) -> JobSubmissionClient:
    """Ray's client of a job server; raises as `_greet`."""
    secret = token()
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    _greet(address, headers)
    # Ray prefers this variable to RAY_ADDRESS, and both to the address that it is given
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    import logging

    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray.dashboard").setLevel(logging.ERROR)
    return JobSubmissionClient(address, headers=headers)


async def _print_log(cluster: JobSubmissionClient, job: str) -> None:
    async for text in cluster.tail_job_logs(job):
        print(text, end="", flush=True)


def follow(cluster: JobSubmissionClient, job: str, again: str) -> int:
    """Print a job's log until it ends.

    Args:
        again: the command that follows the job again, for messages.

    Returns:
        The job's exit status; 128 + n where signal n ended it.

    Raises:
        ValueError: the cluster knows no such job.
        RuntimeError: the connection was lost, or the job ended without an exit status.
        KeyboardInterrupt: Ctrl-C; the job goes on.
    """
    import aiohttp
    import requests

    try:
        cluster.get_job_info(job)
    except RuntimeError:
        raise ValueError(f"--follow: the cluster knows no job {job!r}") from None
    try:
        asyncio.run(_print_log(cluster, job))
        info = cluster.get_job_info(job)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the job goes on; follow it again: {again}") from None
    except (aiohttp.ClientError, requests.RequestException, RuntimeError, OSError) as error:
        raise RuntimeError(
            f"the connection to the cluster was lost ({type(error).__name__}); follow the job again: {again}"
        ) from error
    if not info.status.is_terminal():
        raise RuntimeError(f"the log ended before the job did; follow it again: {again}")
    if info.status.value == "SUCCEEDED":
        return 0
    if info.driver_exit_code:
        return info.driver_exit_code if info.driver_exit_code > 0 else 128 - info.driver_exit_code
    message = (info.message or "no message").strip().splitlines()[-1]
    raise RuntimeError(f"the job {job} ended as {info.status.value}: {redacted(message)}")


def submit(argv: list[str]) -> int:
    """Run a raystill command as a job on a running cluster; the exit status is the job's."""
    parser = Parser(
        prog="raystill submit",
        description="Run a raystill command as a job on a running Ray cluster and follow its log. "
        "Ctrl-C stops the following, not the job.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--address", metavar="URL", help=f"the job server; else $RAY_API_SERVER_ADDRESS or {DEFAULT_ADDRESS}"
    )
    parser.add_argument("--follow", metavar="JOB_ID", help="follow a job that is already running")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="COMMAND", help="such as: distill --run.workers 2:8"
    )
    args = parser.parse_args(argv)
    if bool(args.follow) == bool(args.command):
        raise ValueError("give either a raystill command to run, or --follow JOB_ID")
    if args.command and (args.command[0] not in COMMANDS or args.command[0] == "submit"):
        valid = [name for name in COMMANDS if name != "submit"]
        raise ValueError(f"no command to submit: {args.command[0]!r}; {nearest(args.command[0], valid)}")
    address = _address(args.address)
    cluster = client(address)
    job = args.follow or cluster.submit_job(entrypoint=shlex.join(["raystill", *args.command]))
    option = f" --address {redacted(address)}" if args.address else ""
    again = f"raystill submit{option} --follow {job}"
    if not args.follow:
        print(f"job {job} on {redacted(address)}; follow it from elsewhere: {again}", flush=True)
    return follow(cluster, job, again)
