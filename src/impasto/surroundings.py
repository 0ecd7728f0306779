"""What started this process and what it may find around it: read by `config`, used by engines."""

import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass

SECRETS = frozenset(
    "AZURE_STORAGE_ACCOUNT_KEY AZURE_STORAGE_KEY AZURE_STORAGE_SAS_TOKEN AZURE_STORAGE_SAS_KEY "
    "AZURE_STORAGE_CONNECTION_STRING AZURE_CLIENT_SECRET AZURE_CLIENT_CERTIFICATE_PASSWORD "
    "AZURE_PASSWORD AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN PGPASSWORD RAY_AUTH_TOKEN "
    "IMPASTO_TOKEN".split()
)
"""Environment variables by which tools of storage providers, PostgreSQL, Ray and this one are
handed secrets."""
DATABASE_SECRETS = frozenset({"PGPASSWORD"})
"""Those of them that only the service itself needs."""
RAY_SECRETS = frozenset({"RAY_AUTH_TOKEN"})
"""Those of them that Ray's processes know each other by."""
RAY_WAIT_S = 900.0
"""A cloud takes minutes to start a machine."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """A process's place among those that mpiexec or srun started together."""

    rank: int
    size: int | None
    """None where the launcher doesn't tell; MPI itself knows."""
    local_rank: int
    """Its place on its own machine."""
    local_size: int | None = None
    """How many there are on its machine; None where the launcher doesn't tell."""


@dataclass(frozen=True, slots=True)
class RayCluster:
    """Where a Ray cluster is, and what a worker asks of it."""

    address: str = ""
    """"host:port" from within it, or "auto"; empty starts one on this machine."""
    cores_per_worker: int | None = None
    """None takes eight, or as many as its largest node has."""
    jobs: str = ""
    """URL of its job API, for runs that are sent from outside."""
    wait_s: float = RAY_WAIT_S
    """Without any worker, until that is an error."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What engines need to know that is no part of a request."""

    ranks: Ranks | None = None
    """None where this process was started alone."""
    mpiexec: tuple[str, ...] = ()
    """Command that starts MPI ranks; empty takes the one that is found."""
    ray: RayCluster = RayCluster()
    scheduled_events: str = "off"
    """URL that announces the machine's end; "auto" where there is one, or "off"."""
    hidden: frozenset[str] = SECRETS
    """Environment variables that worker processes don't inherit."""


def inherited(hidden: Collection[str] = SECRETS) -> dict[str, str]:
    """What a process of ours is given: this one's environment without what holds secrets."""
    return {name: value for name, value in os.environ.items() if name not in hidden}


def forbid_core_dumps() -> None:
    """Let neither this process nor those that it starts write their memory to a disk."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # not every system knows them
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
