"""What a measurement was taken on, without naming the machine."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from impasto.runtimes import cpu
from impasto.runtimes.openvino import device_name, supported_precisions

_TELLING = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "sve")
_PACKAGES = ("impasto", "av", "numpy", "openvino", "torch", "imageio-ffmpeg", "pillow")


def describe() -> dict[str, Any]:
    """The processor, its relevant instructions, memory and system."""
    return {
        "processor": device_name(),
        "instructions": [flag for flag in _TELLING if flag in cpu.flags()],
        "cores": cpu.usable_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "precisions": list(supported_precisions()),
        "system": f"{platform.system()} {platform.machine()}",
        "load_before": round(psutil.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of everything that does the work."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
