"""Ray nodes on this machine, each with a raylet of its own, and nothing that anybody else sees."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from impasto.surroundings import RayCluster, Surroundings

pytest.importorskip("ray", reason="Ray is not installed: pip install 'impasto[ray]'")

_QUICK = {
    # A node that is gone is noticed in about a second; one that is only slow is not gone.
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 2,
    "health_check_timeout_ms": 5000,
    # What ended a worker is waited for before its end is told.
    "timeout_ms_task_wait_for_death_info": 10_000,
    # And nothing is started that was not asked for.
    "prestart_worker_first_driver": False,
    "enable_worker_prestart": False,
}
_STORE_BYTES = 80 << 20


class Nodes:
    """A cluster whose head has no cores, and nodes that come and go."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        self._cluster: Any = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "object_store_memory": _STORE_BYTES,
                "temp_dir": self._folder,
                "_system_config": _QUICK,
            },
        )

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def around(self, *, wait_s: float = 120, cores: int | None = 1) -> Surroundings:
        return Surroundings(ray=RayCluster(self.address, cores, wait_s=wait_s))

    @property
    def well(self) -> bool:
        """Whether everything that belongs to the head runs."""
        return not self._cluster.head_node.dead_processes()

    def add(self, cores: int) -> Any:
        return self._cluster.add_node(num_cpus=cores, object_store_memory=_STORE_BYTES)

    def kill(self, node: Any) -> None:
        self._cluster.remove_node(node, allow_graceful=False)

    def kill_head(self) -> None:
        """Let the whole cluster go, as far as others can tell."""
        if self._cluster.head_node is not None:
            self.kill(self._cluster.head_node)

    def clear(self) -> None:
        """Kill all but the head."""
        for node in [*self._cluster.worker_nodes]:
            self.kill(node)

    def close(self) -> None:
        self._cluster.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def nodes(*cores: int) -> Generator[Nodes]:
    """A cluster with a node for each number of cores."""
    cluster = Nodes()
    try:
        for each in cores:
            cluster.add(each)
        yield cluster
    finally:
        cluster.close()


_STEPS = (
    *("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files"),
    *("rsync_exclude", "rsync_filter"),
)
TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Head:
    """A head without cores, whose autoscaler starts up to two nodes of one core for what waits."""

    folder: Path
    address: str
    url: str
    """Of its job API."""
    environ: dict[str, str]
    """With the token that it wants."""

    def processes(self) -> list[psutil.Process]:
        """Everything that was started with it or by it: it names the folder, or the address."""
        port = self.address[self.address.rindex(":") :]
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if any(
                str(self.folder) in word or word.endswith(port)
                for word in process.info["cmdline"] or ()
            )
        ]

    def nodes(self) -> int:
        """How many there are beside it."""
        raylets = [one for one in self.processes() if one.name() == "raylet"]
        pids = {one.pid for one in raylets}
        # One that has just forked a worker is seen twice.
        return sum(parent not in pids for parent in map(_parent, raylets)) - 1


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


@contextmanager
def autoscaling_head() -> Generator[Head]:
    """A head as `ray start` makes it, with Ray's own provider of nodes for tests."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    port, api = _free_port(), _free_port()
    config = {
        "cluster_name": "test",
        "max_workers": 2,
        "upscaling_speed": 10,
        "idle_timeout_minutes": 0.05,
        "head_node_type": "ray.head.default",
        "provider": {
            "type": "fake_multinode",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "foreground_node_launch": True,
            "gcs_address": f"127.0.0.1:{port}",
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "painter": {
                "resources": {"CPU": 1, "object_store_memory": _STORE_BYTES},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 2,
            },
        },
        "auth": {"ssh_user": "nobody"},
        "docker": {},
        # The autoscaler reads these without asking whether they are there.
        **{step: [] for step in _STEPS},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
    }
    (folder / "cluster.json").write_text(json.dumps(config))
    scripts = Path(sys.executable).parent
    environ = {
        **os.environ,
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(folder),
        "IMPASTO_RAY_WAIT_S": "60",
    }
    environ.pop("RAY_ADDRESS", None)
    head = Head(folder, f"127.0.0.1:{port}", f"http://127.0.0.1:{api}", environ)
    command = [
        str(scripts / "ray"), "start", "--head", f"--autoscaling-config={folder}/cluster.json",
        "--num-cpus=0", f"--port={port}", "--include-dashboard=true",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={api}", "--disable-usage-stats",
        # Without it a second cluster on this machine has no agent, and takes no job.
        f"--dashboard-agent-listen-port={_free_port()}",
        f"--object-store-memory={_STORE_BYTES}", f"--temp-dir={folder}",
    ]  # fmt: skip
    fake = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    try:
        subprocess.run(command, env=environ | fake, check=True, capture_output=True)
        yield head
    finally:
        # Not by `ray stop`, which ends every Ray on the machine.
        processes = head.processes()
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
