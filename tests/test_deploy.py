"""The files in deploy/ray say what their readers know, as far as that shows without a cloud."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from impasto.cli.options import FLOW

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install 'impasto[ray]'")

_FOLDER = Path(__file__).parent.parent / "deploy" / "ray"
# Fields of ray.io/v1 (KubeRay 1.6): https://docs.ray.io/en/latest/cluster/kubernetes/references.html
_CLUSTER = {"rayVersion", "enableInTreeAutoscaling", "autoscalerOptions", "authOptions",
            "headGroupSpec", "workerGroupSpecs"}  # fmt: skip
_JOB = {"entrypoint", "backoffLimit", "activeDeadlineSeconds", "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished", "rayClusterSpec"}  # fmt: skip
_WORKERS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
_SPOT = {
    "key": "kubernetes.azure.com/scalesetpriority",
    "operator": "Equal",
    "value": "spot",
    "effect": "NoSchedule",
}


def _load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((_FOLDER / name).read_text(encoding="utf-8"))
    return found


def _cluster(name: str) -> dict[str, Any]:
    spec = _load(name)["spec"]
    found: dict[str, Any] = spec.get("rayClusterSpec", spec)
    return found


def test_the_azure_cluster_is_valid_for_ray_and_has_no_worker_at_rest() -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")
    config = _load("azure-cluster.yaml")
    util.validate_config(util.prepare_config(config))
    painter = config["available_node_types"]["painter"]
    assert painter["min_workers"] == 0
    assert painter["node_config"]["azure_arm_parameters"]["priority"] == "Spot"
    assert config["available_node_types"][config["head_node_type"]]["resources"] == {"CPU": 0}
    assert config["provider"]["msi_name"]
    assert config["idle_timeout_minutes"] > 0


@pytest.mark.parametrize(
    ("name", "kind", "fields"),
    [("raycluster.yaml", "RayCluster", _CLUSTER), ("rayjob.yaml", "RayJob", _JOB)],
)
def test_a_manifest_has_the_fields_of_its_kind(name: str, kind: str, fields: set[str]) -> None:
    manifest = _load(name)
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", kind)
    assert set(manifest["spec"]) == fields
    assert set(_cluster(name)) == _CLUSTER


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_a_cluster_scales_from_none_on_spot_machines_and_wants_a_token(name: str) -> None:
    cluster = _cluster(name)
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["authOptions"] == {"mode": "token", "secretName": "impasto-ray-token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        assert set(group) == _WORKERS
        assert group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]
        assert _SPOT in group["template"]["spec"]["tolerations"]


def _containers(cluster: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        for container in pod["containers"]:
            yield pod, container


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_no_container_is_root_or_writes_where_it_need_not(name: str) -> None:
    for pod, container in _containers(_cluster(name)):
        assert pod["securityContext"]["runAsNonRoot"] is True
        locked = container["securityContext"]
        assert locked["readOnlyRootFilesystem"] is True
        assert locked["allowPrivilegeEscalation"] is False
        assert locked["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"] == container["resources"]["limits"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        secrets = [each for each in container["env"] if re.search("KEY|TOKEN|SAS", each["name"])]
        assert secrets == []


def test_a_cluster_and_a_jobs_cluster_are_the_same() -> None:
    assert _cluster("raycluster.yaml") == _cluster("rayjob.yaml")


def test_every_command_that_is_told_is_one_of_ours() -> None:
    known = {f"--{name.replace('_', '-')}" for name in FLOW} | {"--style", "--json"}
    told = [
        line.strip("# `\n")
        for path in _FOLDER.iterdir()
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\bimpasto (stylize|submit) ", line)
    ]
    assert len(told) >= 4
    for line in told:
        words = shlex.split(line[line.index("impasto ") :])
        assert {word for word in words if word.startswith("--")} <= known, line


def test_the_image_is_pinned_and_ends_as_another_user_than_root() -> None:
    lines = (_FOLDER / "Containerfile").read_text(encoding="utf-8").splitlines()
    (base,) = (line for line in lines if line.startswith("FROM "))
    assert re.fullmatch(r"FROM \S+/python:\d+\.\d+\.\d+-slim-\w+", base)
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER 10001:10001"
    assert any('pip install --no-cache-dir ".[ray,azure]"' in line for line in lines)
    user = next(_containers(_cluster("raycluster.yaml")))[0]["securityContext"]["runAsUser"]
    assert user == 10001
