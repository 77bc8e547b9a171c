"""A cluster file is judged line by line: the shipped one is accepted, each of many broken ones is refused."""
# ruff: noqa: E501 (a table of cases reads best with one a line)

from __future__ import annotations

import copy
import gzip
import json
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from raystill.actors.launch.cluster_file.check import check, cluster
from raystill.actors.launch.cluster_file.document import read
from raystill.actors.launch.cluster_file.facts import AWS_GPU_NODES, AWS_NODE, aws_gpus
from raystill.platform import cli

ROOT = Path(__file__).parents[3]
RAY, PYTHON = version("ray"), f"py{sys.version_info.major}{sys.version_info.minor}"
# as shipped, but for the Ray and Python of whoever runs the tests
SHIPPED = (ROOT / "cluster.yaml").read_text().replace("ray:2.60.0-py311", f"ray:{RAY}-{PYTHON}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout as far as a cluster file looks at one."""
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "raystill-0.1.0-py3-none-any.whl").touch()
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def broken(old: str, new: str) -> str:
    assert SHIPPED.count(old) == 1, f"{old!r} stands {SHIPPED.count(old)} times in cluster.yaml"
    return SHIPPED.replace(old, new)


# (what is replaced, by what, a piece of the line that must be named, what is wrong, the fix)
WRONG = {
    "typo at the top": ("\nmax_workers: 8", "\nmax_worker: 8", "max_worker:", "unknown key `max_worker`", "did you mean `max_workers`?"),
    "typo in provider": ("  region:", "  regoin:", "regoin", "unknown key `regoin`", "did you mean `region`?"),
    "typo in auth": ("ssh_user", "shh_user", "shh_user", "unknown key `shh_user`", "did you mean `ssh_user`?"),
    "typo in docker": ("run_options:", "run_option:", "run_option:", "unknown key `run_option`", "`run_options`"),
    "typo in a node type": ("    min_workers", "    min_worker", "min_worker:", "unknown key `min_worker`", "did you mean `min_workers`?"),
    "typo in node_config": ("InstanceType: g4dn", "InstanceTyp: g4dn", "InstanceTyp:", "unknown key `InstanceTyp`", "`InstanceType`"),
    "typo deep in node_config": ("MarketType:", "MarketTyp:", "MarketTyp:", "unknown key `MarketTyp`", "`MarketType`"),
    "typo in a resource": ("{CPU: 4, GPU: 1}", "{CPU: 4, GPUs: 1}", "GPUs", "no resource of Ray's is called `GPUs`", "did you mean `GPU`?"),
    "typo in a role": ("role: evaluator", "role: evaluater", "evaluater", "no role of raystill's", "did you mean `evaluator`?"),
    "typo in the provider's name": ("type: aws", "type: asw", "type: asw", "no provider 'asw'", "did you mean `aws`?"),
    "no region": ("  region: us-west-2\n", "", "provider:", "`provider` has no `region`", "add `region:`"),
    "no node_config": ("    resources: {CPU: 0}\n", "", "  server:", "`available_node_types.server` has no `resources`", "add `resources:`"),
    "a number in quotes": ("GPU: 1}", 'GPU: "1"}', 'GPU: "1"', "not of the type integer", "write a whole number"),
    "half a GPU": ("GPU: 1}", "GPU: 0.5}", "GPU: 0.5", "not of the type integer", "write a whole number"),
    "an unknown head type": ("head_node_type: server", "head_node_type: sever", "sever", "no node type is called 'sever'", "did you mean `server`?"),
    "too few nodes for the least": ("min_workers: 0", "min_workers: 9", "\nmax_workers: 8", "less than the 9 nodes", "`max_workers: 9`"),
    "no container name": ("  container_name: raystill\n", "", "docker:", "has no `container_name`", "add `container_name: raystill`"),
    "another Ray": (f"ray:{RAY}", "ray:2.48.0", "2.48.0", "the image has Ray 2.48.0", f"write rayproject/ray:{RAY}-{PYTHON}-gpu"),
    "another Python": (f"-{PYTHON}-", "-py39-", "py39", "the image has Python 3.9", f"-{PYTHON}-gpu"),
    "no release": (f"ray:{RAY}-{PYTHON}-gpu", "ray:latest", "latest", "names no release", "-gpu"),
    "an image without CUDA": ("-gpu\n", "\n", "rayproject/ray", "has no CUDA", "-gpu"),
    "too many GPUs": ("GPU: 1}", "GPU: 4}", "GPU: 4", "promises 4 GPUs, and g4dn.xlarge has 1", "write `GPU: 1`"),
    "GPUs where there are none": ("InstanceType: g4dn.xlarge", "InstanceType: c6i.xlarge", "GPU: 1", "c6i.xlarge has 0", "take a GPU instance"),
    "hidden GPUs": ("{CPU: 4, GPU: 1}", "{CPU: 4}", "{CPU: 4}", "hides the 1 GPUs of g4dn.xlarge", "add `GPU: 1`"),
    "too many CPUs": ("CPU: 4,", "CPU: 16,", "CPU: 16", "promises 16 CPUs, and g4dn.xlarge has 4", "write `CPU: 4`"),
    "a spot head": ("InstanceType: m5.xlarge\n", "InstanceType: m5.xlarge\n      InstanceMarketOptions: {MarketType: spot}\n", "{MarketType: spot}", "the head is a spot node", "remove `InstanceMarketOptions`"),
    "a head that computes": ("{CPU: 0}", "{CPU: 4}", "{CPU: 4}", "takes work that needs CPUs", "write `resources: {CPU: 0}`"),
    "a head with a GPU": ("{CPU: 0}", "{CPU: 0, GPU: 1}", "{CPU: 0, GPU: 1}", "takes work that needs GPUs", "remove `GPU`"),
    "an AWS key": ("  region:", "  aws_credentials: {aws_access_key_id: AKIAIOSFODNN7EXAMPLE}\n  region:", "AKIA", "an AWS access key", "take it out and revoke it"),
    "a token in a command": ("-e RAY_AUTH_MODE=token", "-e RAY_AUTH_MODE=token -e RAY_AUTH_TOKEN=0123456789abcdef", "0123456789abcdef", "a credential stands in the file", "take it out"),
    "a password in a comment": ("# In order;", "# login password: hunter2hunter2. In order;", "hunter2", "a credential stands in the file", "take it out"),
    "no cost cap": ("\nmax_workers: 8", "", "# A raystill", "no cost cap", "add `max_workers: N`"),
    "a large cost cap": ("\nmax_workers: 8", "\nmax_workers: 500", "max_workers: 500", "rents up to 500 nodes, more than 64", "--max-nodes 500"),
    "a type without a bound": ("    max_workers: 8\n", "", "  evaluator:", "`evaluator` has no `max_workers`", "add `max_workers: N` to it"),
    "no autoscaling": ("    --autoscaling-config=~/ray_bootstrap_config.yaml ", "    ", "ray start --head", "no evaluator would ever join", "add `--autoscaling-config="),
    "no token mode": ("    - -e RAY_AUTH_MODE=token\n", "", "ray start --head", "no RAY_AUTH_MODE=token", "put `export RAY_AUTH_MODE=token;`"),
    "no token": ("  /home/ray/.ray/auth_token: ~/.ray/auth_token\n", "", "file_mounts:", "no token reaches the nodes", "~/.ray/auth_token"),
    "an open dashboard": ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "--dashboard-host=0.0.0.0", "listens on 0.0.0.0", "--dashboard-host=127.0.0.1"),
    "an open firewall": ("  region:", "  security_group:\n    IpPermissions:\n      - {FromPort: 0, ToPort: 65535, IpProtocol: tcp, IpRanges: [{CidrIp: 0.0.0.0/0}]}\n  region:", "65535", "opens ports 0 to 65535 to the world", "name your own addresses"),
    "a wheel that is not there": ("/home/ray/wheel: dist\n", "/home/ray/wheel: dits\n", "dits", "dits does not exist", "correct the path"),
    "a wheel that nobody brings": ("  /home/ray/wheel: dist\n", "", "pip install /home", "nothing brings /home/ray/wheel", "add `/home/ray/wheel: dist` to file_mounts"),
    "no raystill": ("  - pip install /home/ray/wheel/raystill-*.whl\n", "  - pip install pandas\n", "setup_commands:", "nothing installs raystill", "setup_commands"),
    "a key twice": ("\nidle_timeout", "\nmax_workers: 9\nidle_timeout", "max_workers: 9", "stands here and on line", "remove one of them"),
    "a key that is no text": ("  region:", "  yes:", "yes:", "the key `yes` is not text", 'write it in quotes: "yes"'),
    "a path that is none": ("/home/ray/wheel: dist\n", "/home/ray/wheel: [dist]\n", "[dist]", "an entry of `file_mounts` is not text", "write text"),
    "no instance type": ("InstanceType: g4dn.xlarge", "InstanceType: [g4dn]", "[g4dn]", "`evaluator` names no instance type", "InstanceType: g4dn.xlarge"),
    "a value for a mapping": ("        MarketType: spot\n", "        spot\n", "InstanceMarketOptions", "`InstanceMarketOptions` is not a mapping", "write a mapping"),
    "no YAML": ("  type: aws", "  type: [aws", "  region", "not YAML", "a bracket here or just above"),
    "a tab": ("  region:", "\tregion:", "\tregion", "not YAML", "an indentation"),
    "an object of Python's": ("us-west-2\n", "!!python/object/apply:os.getcwd []\n", "!!python", "not YAML", "look for"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_broken_file_is_refused_with_the_line_and_the_fix(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, named, wrong, fix = WRONG[case]
    path = written(folder, text := broken(old, new))
    before = text[: text.index(named) + len(named) - len(named.lstrip("\n"))]
    line = before.count("\n") + 1
    assert cli.main(["cluster", "check", str(path)]) == 2
    findings = capsys.readouterr().out.splitlines()
    assert all(one.startswith(f"{path}:") and "; " in one for one in findings)
    here = [one for one in findings if one.startswith(f"{path}:{line}: ")]
    assert any(wrong in one and fix in one.partition("; ")[2] for one in here), "\n".join(findings)
    assert not any(secret in one for one in findings for secret in ("AKIAIOSF", "0123456789", "hunter2"))


def test_the_shipped_file_is_accepted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(folder, SHIPPED)
    assert cli.main(["cluster", "check", str(path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{path}: accepted, 8 nodes beside the head at most"
    assert all(": before `ray up`: " in line for line in out[1:])


def test_a_fresh_checkout_is_told_to_build_its_wheel(folder: Path) -> None:
    shutil.rmtree(folder / "dist")
    path = written(folder, SHIPPED)
    assert [f.wrong for f in check(path)[0]] == ["dist does not exist beside mine.yaml"]
    (folder / "pyproject.toml").touch()
    found, waits = check(path)
    assert not found
    assert "no wheel yet" in [w.wrong for w in waits]


def test_two_wheels_are_one_too_many(folder: Path) -> None:
    (folder / "dist" / "raystill-0.2.0-py3-none-any.whl").touch()
    (finding,) = check(written(folder, SHIPPED))[0]
    assert finding.wrong.startswith("2 wheels fit raystill-*.whl")


def test_the_cap_can_be_raised(folder: Path) -> None:
    path = written(folder, broken("\nmax_workers: 8", "\nmax_workers: 100"))
    assert check(path)[0]
    assert not check(path, max_nodes=100)[0]


def test_every_mistake_is_named_at_once(folder: Path) -> None:
    text = (
        broken("  region:", "  regoin:")
        .replace("MarketType: spot", "MarketTyp: spot")
        .replace(f"ray:{RAY}", "ray:2.48.0")
    )
    found = check(written(folder, text))[0]
    lines = [text.splitlines()[finding.line - 1].strip() for finding in found]
    assert lines == ["provider:", "regoin: us-west-2", f"image: rayproject/ray:2.48.0-{PYTHON}-gpu", "MarketTyp: spot"]


def test_rays_own_launcher_has_the_last_word(folder: Path) -> None:
    """What only Ray knows still comes with a line: here, that its own local provider takes no node types."""
    text = broken(
        "  type: aws\n  region: us-west-2\n", "  type: local\n  head_ip: 10.0.0.1\n  worker_ips: [10.0.0.2]\n"
    )
    text = "\n".join(line for line in text.splitlines() if not line.strip().startswith("availability_zone"))
    (finding,) = check(written(folder, text))[0]
    assert "available_node_types" in finding.wrong
    assert text.splitlines()[finding.line - 1] == "available_node_types:"


def test_lines_are_those_of_the_text(folder: Path) -> None:
    path = written(folder, SHIPPED)
    file, _ = read(path)
    assert file is not None
    assert file.data == yaml.safe_load(SHIPPED)
    for keys, line in file.lines.items():
        if not keys[-1].isdigit():
            assert keys[-1] in SHIPPED.splitlines()[line - 1]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


@pytest.mark.parametrize("odd", [None, {1: 2}, ["x"], -1])
def test_no_odd_value_is_too_odd(folder: Path, odd: Any) -> None:
    shipped = yaml.safe_load(SHIPPED)
    for path in places(shipped):
        data = copy.deepcopy(shipped)
        inner = data
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = odd
        text = yaml.safe_dump(data)
        found, _ = check(written(folder, text))
        assert all(1 <= finding.line <= text.count("\n") and finding.fix for finding in found), path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no mapping of keys"),
        ("- a\n- b\n", "no mapping of keys"),
        ("\x00", "not YAML"),
    ],
)
def test_what_is_no_cluster_file(folder: Path, text: str, says: str) -> None:
    (finding,) = check(written(folder, text))[0]
    assert finding.line == 1
    assert finding.wrong.startswith(says)


def test_what_can_not_be_read_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cluster", "check", str(folder / "absent.yaml")]) == 2
    assert "can not be read: No such file" in capsys.readouterr().err
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    with pytest.raises(ValueError, match="aliases unfold into too much"):
        check(written(folder, bomb))
    with pytest.raises(ValueError, match="larger than 1 MiB"):
        check(written(folder, "#" * (1 << 20) + "\n"))
    with pytest.raises(ValueError, match="required"):
        cluster([])


def test_the_tables_agree_with_awss_own() -> None:
    """Against the service model that AWS's library carries, and the instance types that its simulator does."""
    import botocore.session
    import moto

    request = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    assert set(AWS_NODE) - {"SubnetIds"} <= set(request.members)  # Ray chooses one of SubnetIds
    for key, inner in AWS_NODE.items():
        if inner is not None:
            shape = request.members[key]
            assert set(inner) == set((shape.member if shape.type_name == "list" else shape).members), key
    listed = Path(str(moto.__file__)).parent / "ec2" / "resources" / "instance_types.json.gz"
    types = json.loads(gzip.decompress(listed.read_bytes()))
    known = {name: held for name, held in AWS_GPU_NODES.items() if name in types}
    assert len(known) > 30
    for name, held in known.items():
        gpus = sum(gpu["Count"] for gpu in types[name]["GpuInfo"]["Gpus"])
        assert held == (types[name]["VCpuInfo"]["DefaultVCpus"], gpus), name
    assert not [name for name in types if aws_gpus(name) == 0 and types[name].get("GpuInfo")]


def test_the_two_shipped_clusters_agree() -> None:
    """The same roles, cap and versions on Kubernetes as on AWS, and a token on both."""
    spec = yaml.safe_load((ROOT / "examples" / "kuberay.yaml").read_text())["spec"]
    aws = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    server, evaluator = aws["available_node_types"]["server"], aws["available_node_types"]["evaluator"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["enableInTreeAutoscaling"] is True
    assert f"ray:{spec['rayVersion']}-" in aws["docker"]["image"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == str(server["resources"]["CPU"])
    assert spec["headGroupSpec"]["labels"] == server["labels"]
    (group,) = spec["workerGroupSpecs"]
    assert group["labels"] == evaluator["labels"]
    assert (group["minReplicas"], group["maxReplicas"]) == (evaluator["min_workers"], evaluator["max_workers"])
    (container,) = group["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == str(evaluator["resources"]["GPU"])
