"""The process between the engine and a Ray cluster.

Ray ends whatever process is connected to a cluster that goes away, takes its signals and writes to
its terminal: so `impasto.engines.ray` starts one for it. Lines come in:

    want N          there is work for N workers
    give SEAT …     have that seat's worker score a chunk; the rest is the order as JSON
    drop SEAT       let that seat's worker go

and lines go out: `connected CORES` once, with the cores of a worker; `SEAT ready` and
`SEAT <message>`; `waiting …` now and then while no worker is there; `refused …` when none can be
had.
"""

import asyncio
import atexit
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from impasto.engines.actors import Pool
from impasto.keys import from_json

_CORES_PER_WORKER = 8
"""One process feeds about this many cores before its decoder and encoder threads bind."""
_ANSWER_TIMEOUT_S = 5.0
_TELL_EVERY_S = 5.0
_TOKEN_HINT = "; one that wants a token takes RAY_AUTH_MODE=token and RAY_AUTH_TOKEN=…"  # noqa: S105
_STORE_BYTES = 80 << 20
"""For objects, in a cluster of our own; close to Ray's least, as only messages pass through it."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the process is started with."""

    address: str
    """"host:port" or "auto"; empty starts a cluster on this machine."""
    cores: int | None
    """That a worker asks for; None takes eight, or as many as the largest node has."""
    gpus: int = 0
    """Likewise."""
    local_cores: int = 0
    """That a cluster of our own has in all."""


class _Refused(Exception):  # noqa: N818 - a way out, not an error
    """No worker can be had, and waiting does not mend it."""


def _connect(setup: Setup) -> None:
    """Join the cluster at an address, or start one on this machine that ends with this process."""
    import ray

    if setup.address:
        _see_that_it_answers(setup.address)
        which: dict[str, Any] = {"address": setup.address}
    else:
        which = {
            "address": "local", "num_cpus": setup.local_cores, "include_dashboard": False,
            # A folder of its own, or Ray would offer this cluster to others on the machine.
            "object_store_memory": _STORE_BYTES, "_temp_dir": _own_folder(),
        }  # fmt: skip
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **which)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        where = f"the Ray cluster at {setup.address}" if setup.address else "Ray on this machine"
        hint = _TOKEN_HINT if isinstance(error, ConnectionError) else ""
        raise _Refused(f"can't use {where}: {' '.join(str(error).split())[:300]}{hint}") from error


def _see_that_it_answers(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return  # "auto": Ray knows what runs on this machine
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise _Refused(f"no Ray cluster answers at {address} ({why}); see --ray-address") from error


def _own_folder() -> str:
    # Ray makes sockets below it, whose paths have room for 107 bytes: not below a long TMPDIR.
    folder = tempfile.mkdtemp(prefix="impasto-", dir="/tmp" if os.name == "posix" else None)  # noqa: S108
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _choose_cores(asked: int | None) -> int:
    """Cores for each worker: no more than some node has, or will have."""
    largest = max(_node_cores(), default=0)
    if asked is None:
        return max(1, min(_CORES_PER_WORKER, largest))
    if asked > largest > 0:
        raise _Refused(
            f"--cores-per-worker {asked} is more than any node of the Ray cluster has ({largest})"
        )
    return asked


def _node_cores() -> list[int]:
    """Cores of each node that is there, and of each kind that the autoscaler may start."""
    import ray
    from ray._private.state import state

    found = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    config = state.get_cluster_config()  # which no public call tells
    if config is not None:
        groups = config.node_group_configs
        found += [group.resources.get("CPU", 0) for group in groups if group.max_count]
    return [int(cores) for cores in found]


async def _serve(setup: Setup, write: Callable[[bytes], None]) -> None:
    """Do what the engine says until it says no more."""

    def say(seat: int, message: bytes) -> None:
        write(b"%d %s" % (seat, message))

    pool = Pool(_choose_cores(setup.cores), setup.gpus, say)
    write(b"connected %d" % pool.cores)
    listening = asyncio.create_task(_listen(pool))
    telling = asyncio.create_task(_tell(pool, write))
    ends: list[asyncio.Future[Any]] = [listening, pool.refused]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    if pool.refused.done():
        raise _Refused(pool.refused.result())
    listening.result()


async def _listen(pool: Pool) -> None:
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async for line in lines:
        verb, _, rest = line.rstrip(b"\n").partition(b" ")
        number, _, order = rest.partition(b" ")
        match verb:
            case b"want":
                pool.want(int(number))
            case b"give":
                pool.give(int(number), order)
            case b"drop":
                pool.drop(int(number))


async def _tell(pool: Pool, write: Callable[[bytes], None]) -> None:
    """Say what is waited for, while no worker is there."""
    import ray

    while True:
        await asyncio.sleep(_TELL_EVERY_S)
        if not pool.ready:
            there = int(ray.cluster_resources().get("CPU", 0))
            free = int(ray.available_resources().get("CPU", 0))
            write(
                b"waiting a worker needs %d cores, and of %d that the cluster has %d are free"
                % (pool.cores, there, free)
            )


def _main(setup: str) -> None:
    # Whatever a library prints must not get between the messages.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def write(line: bytes) -> None:
        out.write(line + b"\n")
        out.flush()

    # No telemetry, and nothing of the current folder is sent to the cluster, not under uv either.
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0")
    import ray

    given = from_json(setup.encode(), Setup)
    try:
        _connect(given)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # it has no chunk to give back, and ends as told
        asyncio.run(_serve(given, write))
    except _Refused as refused:
        write(f"refused {refused}".encode())
    finally:
        ray.shutdown()


if __name__ == "__main__":
    _main(sys.argv[1])
