"""What this process may use of the machine: how many cores, which instructions, how much memory."""

import os
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_TOPOLOGY = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup")

# The first that the processor has names it for people, the fastest for a network first.
_EXTENSIONS = (
    ("amx_bf16", "AMX-BF16"),
    ("avx512_bf16", "AVX512-BF16"),
    ("avx512f", "AVX512"),
    ("avx2", "AVX2"),
    ("asimd", "NEON"),
)


def usable_cores() -> int:
    """Physical cores that this process may run on, by its affinity and its control group.

    A quota that is not whole is rounded up: a core that is slowed down still does work.
    """
    if hasattr(os, "sched_getaffinity"):  # Linux only
        allowed = os.sched_getaffinity(0)
    else:
        allowed = set(range(os.cpu_count() or 1))
    # Two hardware threads of a core share its arithmetic units, so a core counts once.
    cores = {_siblings(cpu) for cpu in allowed}
    quota = _quota()
    return max(1, len(cores) if quota is None else min(len(cores), quota))


def flags() -> frozenset[str]:
    """Instruction set extensions in Linux's names; empty where the system doesn't tell."""
    for line in _lines(_CPUINFO):
        key, _, value = line.partition(":")
        if key.strip().lower() in {"flags", "features"}:
            return frozenset(value.split())
    return frozenset()


def native_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself: AMX-BF16 or AVX512-BF16.

    False where the system doesn't tell: f32 is right everywhere, only slower.
    """
    return bool(flags() & {"amx_bf16", "avx512_bf16"})


def free_memory_bytes() -> int | None:
    """Memory that this process could still get, swap left out; None where the system doesn't tell.

    The least of what the system has and what the control group (version 2) allows.
    """
    rows = (line.split() for line in _lines(_MEMINFO))
    found = [int(row[1]) * 1024 for row in rows if row[:1] == ["MemAvailable:"]]
    limit, used = (_lines(_CGROUP / f"memory.{name}") for name in ("max", "current"))
    if limit and used and limit[0].isdigit():
        found.append(max(0, int(limit[0]) - int(used[0])))
    return min(found, default=None)


def extension() -> str:
    """Name of the fastest extension that matters to a network, such as "AVX512-BF16"; or ""."""
    found = flags()
    return next((title for flag, title in _EXTENSIONS if flag in found), "")


def _siblings(cpu: int) -> str:
    """The hardware threads of the core that `cpu` belongs to, as the kernel writes them."""
    lines = _lines(_TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list")
    return lines[0] if lines else str(cpu)


def _quota() -> int | None:
    """Cores that the control group's bandwidth limit allows, rounded up; None without a limit."""
    # Version 2: "150000 100000" or "max 100000".
    limits = [line.split() for line in _lines(_CGROUP / "cpu.max")]
    v1 = [_lines(_CGROUP / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    if all(v1):  # version 1: a quota of -1 is none
        limits.append([lines[0] for lines in v1])
    cores = [
        -(-int(quota) // int(period))
        for quota, period in limits
        if quota.isdigit() and period.isdigit() and int(quota) > 0 and int(period) > 0
    ]
    return min(cores, default=None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux, or not shown to this process
        return []
