"""Rules on access to a cluster: no secrets in the file, a token for every connection, no port open to the world."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from raystill.actors.launch.cluster_file.document import ClusterFile, Finding
from raystill.platform.files.redaction import credential_in

TOKEN_MODE = re.compile(r"\bRAY_AUTH_MODE=[\"']?token\b")


def secrets(file: ClusterFile) -> Iterator[Finding]:
    """The text, comments included, contains no credential; the message never repeats one."""
    for number, line in enumerate(file.text.splitlines(), 1):
        if credential := credential_in(line):
            fix = "take it out and revoke it; mount a file of yours, or give the nodes a role"
            yield Finding(number, f"{credential} stands in the file, which is copied to every node", fix)


def authentication(file: ClusterFile) -> Iterator[Finding]:
    """Ray asks for a token, without which it runs what anyone sends it, and every node gets the token."""
    everywhere = any(TOKEN_MODE.search(text) for _, text in file.strings("docker", "run_options"))
    for side in ("head", "worker"):
        key = f"{side}_start_ray_commands"
        starts = [(line, text) for line, text in file.strings(key) if re.search(r"\bray start\b", text)]
        if not starts:
            wrong = f"`{key}` do not start Ray, and Ray's own commands ask for no token"
            yield Finding(file.line(key), wrong, "take them from the cluster.yaml of raystill")
        options = any(TOKEN_MODE.search(text) for _, text in file.strings("docker", f"{side}_run_options"))
        for line, text in starts:
            if not (everywhere or options or TOKEN_MODE.search(text)):
                fix = (
                    "put `export RAY_AUTH_MODE=token;` before `ray start`, or `-e RAY_AUTH_MODE=token` into run_options"
                )
                at = file.line_of("ray start", line)
                yield Finding(at, "anyone who reaches this Ray can run code on it: no RAY_AUTH_MODE=token", fix)
    mounted = any("auth_token" in f"{remote} {local}" for remote, local in file.mapping("file_mounts").items())
    if not mounted and "RAY_AUTH_TOKEN_PATH" not in file.text:
        fix = "add `/home/ray/.ray/auth_token: ~/.ray/auth_token` to file_mounts"
        yield Finding(file.line("file_mounts"), "no token reaches the nodes, and Ray will not start without", fix)


def head_command(file: ClusterFile) -> Iterator[Finding]:
    """The head autoscales, and its dashboard listens on the head alone."""
    for line, text in file.strings("head_start_ray_commands"):
        if not re.search(r"\bray start\b.*--head", text, re.DOTALL):
            continue
        if "--autoscaling-config" not in text:
            fix = "add `--autoscaling-config=~/ray_bootstrap_config.yaml` to `ray start --head`"
            at = file.line_of("ray start", line)
            yield Finding(at, "no evaluator would ever join: `ray start --head` does not autoscale", fix)
        host = re.search(r"--dashboard-host[= ]\s*(\S+)", text)
        if host and host[1] not in ("127.0.0.1", "localhost", "::1"):
            fix = "write `--dashboard-host=127.0.0.1` and reach it by `ray dashboard FILE`"
            at = file.line_of("--dashboard-host", line)
            yield Finding(at, f"the dashboard, which takes jobs, listens on {host[1]}", fix)


def open_ports(file: ClusterFile) -> Iterator[Finding]:
    """AWS's firewall opens no port to the world but that of SSH."""
    path = ("provider", "security_group", "IpPermissions")
    rules = file.get(*path)
    for i, rule in enumerate(rules if isinstance(rules, list) else []):
        ranges = rule.get("IpRanges") if isinstance(rule, dict) else None
        if any(r.get("CidrIp") == "0.0.0.0/0" for r in ranges or [] if isinstance(r, dict)) and (
            (rule.get("FromPort"), rule.get("ToPort")) != (22, 22)
        ):
            wrong = f"the firewall opens ports {rule.get('FromPort')} to {rule.get('ToPort')} to the world"
            yield Finding(file.line(*path, i), wrong, "name your own addresses in `CidrIp`, or remove the rule")


GUARDS: tuple[Callable[[ClusterFile], Iterator[Finding]], ...] = (secrets, authentication, head_command, open_ports)
