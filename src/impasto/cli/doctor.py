"""What this installation can do: processor, runtimes, codecs, folders, and what is missing."""

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

from impasto.cli import summary
from impasto.cli.look import err, glyphs, out
from impasto.cli.options import Json, settings
from impasto.cli.text import clean, size
from impasto.engines import open_engine
from impasto.errors import ImpastoError, RequestError
from impasto.settings import Settings
from impasto.wording import plural

FEATURES = ("amx_bf16", "amx_int8", "avx512_bf16", "avx512f", "avx2", "fma")
"""Instruction sets that decide how fast a network runs, in Linux's names."""

ENCODERS = {
    "h264": "libx264",
    "h265": "libx265",
    "av1": "libsvtav1",
    "vp9": "libvpx-vp9",
    "ffv1": "ffv1",
}
DECODERS = ("h264", "hevc", "libdav1d", "vp9", "vp8", "mpeg4", "mpeg2video", "prores", "ffv1")

ESSENTIAL = ("openvino", "av", "obstore")


def doctor(json: Json = False) -> int:
    """Check this installation: processor, codecs, extras, folders."""
    found = examine(settings())
    if json:
        summary.print_json(found)
    else:
        _show(out(), found)
    for problem in found["problems"]:
        err().print(Text(f"impasto: {clean(problem)}"), soft_wrap=True)
    return 1 if found["problems"] else 0


def examine(chosen: Settings) -> dict[str, Any]:
    """Everything that `doctor` says, as plain data; `problems` holds what must be mended."""
    problems: list[str] = []
    modules = {name: _module(name, problems)
               for name in ("openvino", "torch", "onnxruntime", "av", "obstore")}  # fmt: skip
    return {
        "impasto": importlib.metadata.version("impasto"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "memory": _memory(),
        "modules": modules,
        **_scoring(modules, problems),
        "ffmpeg": _ffmpeg(modules, problems),
        "extras": _extras(),
        "engines": _engines(chosen),
        "folders": _folders(chosen, problems),
        "terminal": _terminal(),
        "problems": problems,
    }


def _module(name: str, problems: list[str]) -> str | None:
    """The version of a module that imports here; None where it is absent."""
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if name in ESSENTIAL:
            problems.append(f"{name} can't be imported ({error}): pip install --force-reinstall "
                            "impasto")  # fmt: skip
        return None
    except Exception as error:  # noqa: BLE001 - any fault of a broken install is the finding
        problems.append(f"{name} is broken: {error}")
        return None
    # OpenVINO appends its build: 2026.4.1-22982-…
    return str(getattr(module, "__version__", "unknown")).partition("-")[0]


def _cpu() -> dict[str, Any]:
    from impasto.runtimes import cpu

    flags = cpu.flags()
    return {
        "cores_usable": cpu.usable_cores(),
        "threads": os.cpu_count() or 1,
        "features": {name: name in flags for name in FEATURES},
        "native_bf16": cpu.native_bf16(),
    }


def _memory() -> dict[str, int | None]:
    """Bytes of memory: all, free for use, and the control group's limit."""
    table: dict[str, int] = {}
    for line in _lines(Path("/proc/meminfo")):
        found = re.match(r"(MemTotal|MemAvailable):\s+(\d+) kB", line)
        if found:
            table[found[1]] = int(found[2]) * 1024
    limit = next(iter(_lines(Path("/sys/fs/cgroup/memory.max"))), "max")
    return {
        "total_bytes": table.get("MemTotal"),
        "available_bytes": table.get("MemAvailable"),
        "limit_bytes": int(limit) if limit.isdigit() else None,
    }


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return []


def _scoring(modules: dict[str, str | None], problems: list[str]) -> dict[str, Any]:
    """Devices that networks can run on, and the precision that `auto` begins with."""
    devices: list[dict[str, str]] = []
    precision = None
    if modules["openvino"]:
        from impasto.runtimes import openvino

        try:
            devices.append({"device": "cpu", "name": openvino.device_name(), "runtime": "openvino"})
            precision = openvino.best_precision()
        except (ImpastoError, RuntimeError) as error:
            problems.append(f"OpenVINO finds no CPU to run on: {error}")
    if modules["torch"]:
        torch = importlib.import_module("torch")
        devices += [
            {"device": f"cuda:{n}", "name": str(torch.cuda.get_device_name(n)), "runtime": "torch"}
            for n in range(torch.cuda.device_count())
        ]
    return {"devices": devices, "precision": precision}


def _ffmpeg(modules: dict[str, str | None], problems: list[str]) -> dict[str, Any]:
    if not modules["av"]:
        return {}
    # By name: only impasto.media imports PyAV; here it is a patient, not a tool.
    av = importlib.import_module("av")

    def has(name: str, mode: str) -> bool:
        try:
            av.codec.Codec(name, mode)
        except ValueError:  # what PyAV raises for a codec that FFmpeg was built without
            return False
        return True

    encoders = {codec: name if has(name, "w") else None for codec, name in ENCODERS.items()}
    if encoders["h264"] is None:
        problems.append("this PyAV has no libx264, the default encoder: pip install av")
    return {
        "version": str(getattr(av, "ffmpeg_version_info", "unknown")),
        "libraries": {name: ".".join(map(str, v)) for name, v in av.library_versions.items()},
        "encoders": encoders,
        "decoders": {name: has(name, "r") for name in DECODERS},
    }


def _extras() -> list[dict[str, Any]]:
    """Each optional extra of the package, what it lacks, and the command that gets it."""
    wanted: dict[str, list[str]] = {}
    for line in importlib.metadata.requires("impasto") or []:
        found = re.match(r"([A-Za-z0-9._-]+).*;.*extra == ['\"]([\w-]+)['\"]", line)
        if found and found[2] != "dev":
            wanted.setdefault(found[2], []).append(found[1])
    return [
        {
            "name": name,
            "missing": [package for package in packages if not _installed(package)],
            "install": f"pip install 'impasto[{name}]'",
        }
        for name, packages in wanted.items()
    ]


def _engines(chosen: Settings) -> dict[str, str | None]:
    """Each engine of several machines: None where it can be used, or what it lacks."""
    alone = replace(chosen.surroundings, ranks=None)
    lacks: dict[str, str | None] = {}
    for name in ("mpi", "ray"):
        try:
            open_engine(name, surroundings=alone)
            lacks[name] = None
        except RequestError as error:
            lacks[name] = str(error)
    return lacks


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _folders(chosen: Settings, problems: list[str]) -> dict[str, Any]:
    places = {
        "styles": str(chosen.user_styles),
        "work": chosen.system_store,
    }
    return {
        name: _store(place, chosen, problems)
        if "://" in place and not place.startswith("file://")
        else _folder(name, place, problems)
        for name, place in places.items()
    }


def _store(url: str, chosen: Settings, problems: list[str]) -> dict[str, Any]:
    """Whether an object store answers, and takes the credentials for it."""
    from impasto.stores import open_store

    try:
        next(open_store(url, chosen.access).list(), None)
    except ImpastoError as error:
        problems.append(str(error))
        return {"path": url, "reachable": False}
    return {"path": url, "reachable": True}


def _folder(name: str, place: str, problems: list[str]) -> dict[str, Any]:
    path = Path(place.removeprefix("file://")).absolute()
    standing = next(folder for folder in (path, *path.parents) if folder.exists())
    writable = standing.is_dir() and os.access(standing, os.W_OK)
    if not writable and name == "work":
        problems.append(f"the work folder {path} can't be written: set IMPASTO_WORK or --work")
    return {
        "path": str(path),
        "exists": path.exists(),
        "writable": writable,
        "free_bytes": shutil.disk_usage(standing).free,
    }


def _terminal() -> dict[str, Any]:
    console = err()
    return {
        "interactive": console.is_terminal,
        "colors": console.color_system,
        "columns": console.width,
        "encoding": sys.stderr.encoding,
    }


def _show(console: Console, found: dict[str, Any]) -> None:
    table = summary.grid()
    table.add_row("impasto", f"{found['impasto']}, Python {found['python']}, {found['system']}")
    cpu, memory = found["cpu"], found["memory"]
    table.add_row("processor", f"{plural(cpu['cores_usable'], 'core')} usable of "
                  f"{plural(cpu['threads'], 'thread')}")  # fmt: skip
    table.add_row("", _marks(console, cpu["features"]))
    if memory["total_bytes"]:
        words = f"{size(memory['total_bytes'])}, {size(memory['available_bytes'] or 0)} free"
        limit = memory["limit_bytes"]
        table.add_row("memory", words + (f", limited to {size(limit)}" if limit else ""))
    for device in found["devices"]:
        table.add_row("device", Text(clean(f"{device['device']}: {device['name']}, "
                                           f"{device['runtime']}")))  # fmt: skip
    table.add_row("precision", f"{found['precision'] or 'none'} where it is left to auto")
    table.add_row("runtimes", _marks(console, found["modules"]))
    _codec_rows(console, table, found["ffmpeg"])
    for extra in found["extras"]:
        lacks = ", ".join(extra["missing"])
        words = f"{extra['name']}: {'complete' if not lacks else f'lacks {lacks}'}"
        table.add_row("extra", words if not lacks else f"{words}; {extra['install']}")
    for name, lacking in found["engines"].items():
        table.add_row("engine", Text(clean(f"{name}: {lacking or 'usable'}")))
    for name, folder in found["folders"].items():
        table.add_row(name.replace("_", " "), Text(clean(folder["path"]) + _state(folder)))
    terminal = found["terminal"]
    table.add_row("terminal", f"{terminal['columns']} columns, {terminal['colors'] or 'no'} colors,"
                  f" {terminal['encoding']}")  # fmt: skip
    console.print()
    summary.show(console, table)
    console.print()
    if not found["problems"]:
        summary.say(console, (f"{glyphs(console).tick} ", "good"), "ready")
        console.print()


def _state(folder: dict[str, Any]) -> str:
    if "reachable" in folder:
        return ", reachable" if folder["reachable"] else ", not reachable"
    return f", {size(folder['free_bytes'])} free"


def _codec_rows(console: Console, table: Table, ffmpeg: dict[str, Any]) -> None:
    if ffmpeg:
        libraries = ", ".join(f"{name} {version}" for name, version in ffmpeg["libraries"].items()
                              if name in {"libavcodec", "libavformat"})  # fmt: skip
        table.add_row("FFmpeg", clean(f"{ffmpeg['version']}, {libraries}"))
        table.add_row("encoders", _marks(console, ffmpeg["encoders"]))
        table.add_row("decoders", _marks(console, ffmpeg["decoders"]))


def _marks(console: Console, things: dict[str, Any]) -> Columns:
    """Names, each with a tick and its version where it is there, or a soft cross."""
    signs = glyphs(console)
    cells = []
    for name, state in things.items():
        mark = (signs.tick, "good") if state else (signs.cross, "waiting")
        cell = Text.assemble(mark, (f" {clean(name)}", "" if state else "waiting"))
        cells.append(cell.append(f" {clean(state)}" if isinstance(state, str) else "", "soft"))
    return Columns(cells, padding=(0, 3))
