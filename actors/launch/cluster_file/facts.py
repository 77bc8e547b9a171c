"""Facts that Ray's schema lacks: keys of the providers and of AWS's node_config, CPUs and GPUs of AWS's GPU nodes."""

from __future__ import annotations

import re
from typing import Any

# Read from Ray 2.60's node providers; its schema lets any key pass here.
_ANY_PROVIDER = {
    "type": None, "module": None, "use_internal_ips": None, "use_external_head_ip": None, "cache_stopped_nodes": None,
    "disable_node_updaters": None, "disable_launch_config_check": None, "foreground_node_launch": None,
    "worker_liveness_check": None,
}  # fmt: skip

Shape = dict[str, Any]
"""Known keys -> the known keys of the mapping under it, or of each mapping in the list under it; None allows any."""

PROVIDERS: dict[str, Shape] = {
    "aws": {
        "region": None, "availability_zone": None, "key_pair": {"key_name": None}, "aws_credentials": None,
        "security_group": {"GroupName": None, "IpPermissions": None},
        "cloudwatch": {"agent": None, "dashboard": None, "alarm": None},
    },
    "gcp": {"region": None, "availability_zone": None, "project_id": None, "gcp_credentials": None},
    "azure": {
        "location": None, "resource_group": None, "subscription_id": None, "tags": None, "unique_id": None,
        "availability_zone": None, "msi_name": None, "msi_resource_group": None, "msi_identity_id": None,
        "msi_identity_principal_id": None, "subnet_mask": None, "subnet_id": None,
    },
    "local": {"head_ip": None, "worker_ips": None, "external_head_ip": None, "coordinator_address": None},
    "fake_multinode": {"gcs_address": None, "head_node_id": None, "launch_multiple": None},
}  # fmt: skip
PROVIDERS = {name: {**_ANY_PROVIDER, **keys} for name, keys in PROVIDERS.items()}

REQUIRED = {
    "aws": ("region",),
    "gcp": ("project_id", "region", "availability_zone"),
    "azure": ("location", "resource_group"),
}


def _keys(names: str) -> Shape:
    return dict.fromkeys(names.split())


# The fields of EC2's RunInstances request, which node_config becomes.
AWS_NODE: Shape = {
    **_keys(
        "ImageId InstanceType Ipv6AddressCount Ipv6Addresses KernelId KeyName MaxCount MinCount RamdiskId "
        "SecurityGroupIds SecurityGroups SubnetId SubnetIds UserData ElasticGpuSpecification "
        "ElasticInferenceAccelerators TagSpecifications CreditSpecification CpuOptions "
        "CapacityReservationSpecification HibernationOptions LicenseSpecifications EnclaveOptions "
        "PrivateDnsNameOptions MaintenanceOptions DisableApiStop EnablePrimaryIpv6 NetworkPerformanceOptions "
        "Operator SecondaryInterfaces DisableApiTermination InstanceInitiatedShutdownBehavior PrivateIpAddress "
        "AdditionalInfo NetworkInterfaces EbsOptimized"
    ),
    "InstanceMarketOptions": {
        "MarketType": None,
        "SpotOptions": _keys("MaxPrice SpotInstanceType BlockDurationMinutes ValidUntil InstanceInterruptionBehavior"),
    },
    "BlockDeviceMappings": {
        **_keys("DeviceName VirtualName NoDevice"),
        "Ebs": _keys(
            "VolumeSize VolumeType Iops Throughput Encrypted KmsKeyId SnapshotId DeleteOnTermination OutpostArn "
            "AvailabilityZone AvailabilityZoneId EbsCardIndex VolumeInitializationRate"
        ),
    },
    "IamInstanceProfile": _keys("Arn Name"),
    "Placement": _keys(
        "AvailabilityZone AvailabilityZoneId Affinity GroupName GroupId PartitionNumber HostId Tenancy SpreadDomain "
        "HostResourceGroupArn"
    ),
    "Monitoring": _keys("Enabled MetricCategoryIds"),
    "LaunchTemplate": _keys("LaunchTemplateId LaunchTemplateName Version"),
    "MetadataOptions": _keys("HttpTokens HttpPutResponseHopLimit HttpEndpoint HttpProtocolIpv6 InstanceMetadataTags"),
}

_ONE_TO_FOUR = {
    "xlarge": (4, 1), "2xlarge": (8, 1), "4xlarge": (16, 1), "8xlarge": (32, 1), "16xlarge": (64, 1),
    "12xlarge": (48, 4),
}  # fmt: skip
_UP_TO_EIGHT = {**_ONE_TO_FOUR, "24xlarge": (96, 4), "48xlarge": (192, 8)}
_FAMILIES: dict[str, dict[str, tuple[int, int]]] = {
    "g4dn": {**_ONE_TO_FOUR, "metal": (96, 8)}, "g5": _UP_TO_EIGHT, "g6": _UP_TO_EIGHT, "g6e": _UP_TO_EIGHT,
    "gr6": {"4xlarge": (16, 1), "8xlarge": (32, 1)},
    "p3": {"2xlarge": (8, 1), "8xlarge": (32, 4), "16xlarge": (64, 8)}, "p3dn": {"24xlarge": (96, 8)},
    "p4d": {"24xlarge": (96, 8)}, "p4de": {"24xlarge": (96, 8)},
    "p5": {"4xlarge": (16, 1), "48xlarge": (192, 8)}, "p5e": {"48xlarge": (192, 8)}, "p5en": {"48xlarge": (192, 8)},
    "p6-b200": {"48xlarge": (192, 8)},
}  # fmt: skip

AWS_GPU_NODES = {f"{family}.{size}": counts for family, sizes in _FAMILIES.items() for size, counts in sizes.items()}
"""Instance type -> (vCPUs, GPUs), for nodes with GPUs of NVIDIA."""


def aws_gpus(instance: str) -> int | None:
    """The number of GPUs of an instance type; None where it is unknown."""
    if instance in AWS_GPU_NODES:
        return AWS_GPU_NODES[instance][1]
    return 0 if re.match(r"[mcrt]\d", instance) else None  # the general, compute and memory families have none
