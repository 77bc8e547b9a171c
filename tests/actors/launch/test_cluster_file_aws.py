"""What cluster.yaml would rent: Ray's own AWS provider, on a simulator of AWS in this process."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

SHIPPED = Path(__file__).parents[3] / "cluster.yaml"


def test_the_head_is_on_demand_and_evaluators_are_spot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "simulated")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes the key pair that it makes to ~/.ssh
    (tmp_path / ".ssh").mkdir()
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # Ray waits for a real AWS to settle
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        from ray.autoscaler._private.aws.config import bootstrap_aws
        from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
        from ray.autoscaler._private.util import prepare_config, validate_config

        config = prepare_config(yaml.safe_load(SHIPPED.read_text()))
        validate_config(config)
        config = bootstrap_aws(config)
        known = AWSNodeProvider.fillout_available_node_types_resources(copy.deepcopy(config))["available_node_types"]
        assert known["server"]["resources"] == {"CPU": 0}
        assert {"CPU": 4, "GPU": 1}.items() <= known["evaluator"]["resources"].items()

        cloud = boto3.client("ec2", config["provider"]["region"])
        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        image = cloud.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]  # the simulator has no GPU images
        for name, node in config["available_node_types"].items():
            tags = {"ray-user-node-type": name, "ray-node-kind": "worker", "ray-node-name": name}
            provider.create_node({**node["node_config"], "ImageId": image}, tags, 1)
        rented = [i for r in cloud.describe_instances()["Reservations"] for i in r["Instances"]]
        assert sorted((i["InstanceType"], i.get("InstanceLifecycle", "on demand")) for i in rented) == [
            ("g4dn.xlarge", "spot"),
            ("m5.xlarge", "on demand"),
        ]
        groups = cloud.describe_security_groups(
            Filters=[{"Name": "group-name", "Values": [f"ray-autoscaler-{config['cluster_name']}"]}]
        )["SecurityGroups"]
        doors = [rule for group in groups for rule in group["IpPermissions"] if rule["IpRanges"]]
        assert [(door["FromPort"], door["ToPort"]) for door in doors] == [(22, 22)]  # and Ray's ports to nobody
