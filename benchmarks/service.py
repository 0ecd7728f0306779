"""What the service bears: submissions, a long queue, many followers, many runs.

    python benchmarks/service.py [--quick]

A real `impasto serve` on SQLite over loopback; the runs' process makes nothing (its scorer is a
no-op in the strictest sense), so that what is measured is the service's own. For the same reason
the client, in a process of its own, is a light one: see `http_client`. Every run that was accepted
has to be there after the service is killed (SIGKILL, amid more submissions) and started again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from http_client import Client, Connection

_HERE = Path(__file__)
_CLIENTS = 32
_MOST_ON_A_PAGE = 500
_VIDEO = b"\x00\x00\x00\x18ftypmp42" + bytes(500)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each."""

    submissions: int = 3000
    queued: int = 10_000
    pages: int = 100
    followers: int = 100
    runs: int = 1000


QUICK = Sizes(submissions=200, queued=500, pages=10, followers=20, runs=40)


@dataclass(frozen=True, slots=True)
class _Service:
    client: Client
    pid: int


def service(folder: Path, sizes: Sizes) -> dict[str, Any]:
    """All figures; nothing is carried out while submissions, pages and followers are measured."""
    with _serving(folder / "idle", jobs=0) as idle:
        found, accepted = asyncio.run(_load(idle, sizes))
    with _serving(folder / "idle", jobs=0, token=idle.client.token) as again:
        lost = accepted - asyncio.run(_listed(again.client))
        found["submissions"] |= {"accepted": len(accepted), "lost_when_killed": len(lost)}
    with _serving(folder / "busy", jobs=2) as busy:
        return found | {"memory": asyncio.run(_memory(busy, sizes))}


async def _load(idle: _Service, sizes: Sizes) -> tuple[dict[str, Any], set[str]]:
    """The figures, and the ids of all runs that were accepted before the service was killed."""
    accepted: set[str] = set()
    process = psutil.Process(idle.pid)
    before = _cpu_s(process)
    submissions = await _submit(idle.client, sizes.submissions, accepted)
    submissions["cpu_ms"] = round(1e3 * (_cpu_s(process) - before) / sizes.submissions, 2)
    await _submit(idle.client, sizes.queued - sizes.submissions, accepted)
    async with idle.client.connection() as connection:
        pages = await _pages(connection, sizes)
        followers = await _followers(idle.client, connection, sizes)
    killed_at = len(accepted) + sizes.submissions // 10
    await _submit(idle.client, sizes.submissions, accepted, kill=(idle.pid, killed_at))
    return {"submissions": submissions, "pages": pages, "followers": followers}, accepted


def _cpu_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


async def _submit(
    client: Client, count: int, accepted: set[str], *, kill: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Submit so many runs by several clients at once; each is on disk when it is answered.

    Args:
        client: of the service.
        count: of runs.
        accepted: gets their ids.
        kill: a process, and the number of `accepted` at which it is killed.
    """
    waiting = iter(range(count))
    took_s: list[float] = []

    async def one() -> None:
        async with client.connection() as connection:
            for number in waiting:
                began = time.perf_counter()
                answer = await connection.post("/v1/runs", _body(number))
                assert answer.status == 202, answer.body
                accepted.add(answer.json()["run_id"])
                took_s.append(time.perf_counter() - began)
                if kill is not None and len(accepted) == kill[1]:
                    os.kill(kill[0], signal.SIGKILL)

    began = time.perf_counter()
    ended = await asyncio.gather(
        *(one() for _ in range(_CLIENTS)), return_exceptions=kill is not None
    )
    wall_s = time.perf_counter() - began
    assert all(each is None or _is_broken(each) for each in ended), ended
    return {"count": count, "clients": _CLIENTS, "per_s": round(count / wall_s, 1),
            **_milliseconds(took_s)}  # fmt: skip


def _is_broken(error: object) -> bool:
    """Whether it is what the client of a killed service gets to see."""
    return isinstance(error, ConnectionError | asyncio.IncompleteReadError)


def _body(number: int) -> dict[str, Any]:
    return {"source": "in/a.mp4", "style": "starry_night", "target": f"out/{number}.mp4"}


async def _pages(connection: Connection, sizes: Sizes) -> dict[str, Any]:
    """List the queue from end to end, page by page of the usual size."""
    took_s: list[float] = []
    seen = 0
    async with aclosing(_pages_of(connection, "/v1/runs?state=queued")) as pages:
        began = time.perf_counter()
        async for page in pages:
            took_s.append(time.perf_counter() - began)
            seen += len(page)
            if len(took_s) == sizes.pages:
                break
            began = time.perf_counter()
    return {"queued": sizes.queued, "seen": seen, **_milliseconds(took_s)}


async def _listed(client: Client) -> set[str]:
    """The ids of all runs that the service has."""
    asked = f"/v1/runs?limit={_MOST_ON_A_PAGE}"
    async with client.connection() as connection:
        return {run["run_id"] async for page in _pages_of(connection, asked) for run in page}


async def _pages_of(connection: Connection, asked: str) -> AsyncGenerator[list[dict[str, Any]]]:
    answer = (await connection.get(asked)).json()
    yield answer["runs"]
    while answer["next"] is not None:
        answer = (await connection.get(f"{asked}&after={answer['next']}")).json()
        yield answer["runs"]


async def _followers(client: Client, connection: Connection, sizes: Sizes) -> dict[str, Any]:
    """Let many follow one run, then end it: how soon has the last of them heard?"""
    run_id = (await connection.post("/v1/runs", _body(0))).json()["run_id"]
    following = asyncio.Semaphore(0)
    heard_at: list[float] = []

    async def follow() -> None:
        async with (
            client.connection() as stream,
            aclosing(stream.lines(f"/v1/runs/{run_id}/events")) as lines,
        ):
            async for line in lines:
                if "queued" in line:
                    following.release()
                if "cancelled" in line:
                    heard_at.append(time.perf_counter())
                    return

    tasks = [asyncio.create_task(follow()) for _ in range(sizes.followers)]
    for _ in tasks:
        await following.acquire()
    began = time.perf_counter()
    await connection.post(f"/v1/runs/{run_id}/cancel")
    await asyncio.gather(*tasks)
    return {"followers": sizes.followers, "heard": len(heard_at),
            "all_heard_ms": round(1e3 * (max(heard_at) - began), 1)}  # fmt: skip


async def _memory(busy: _Service, sizes: Sizes) -> dict[str, Any]:
    """Make many runs; the service's own memory after a fifth of them and after all."""
    process = psutil.Process(busy.pid)
    marks: dict[int, float] = {}
    began = time.perf_counter()
    async with busy.client.connection() as connection:
        for count in (sizes.runs // 5, sizes.runs):
            await _submit(busy.client, count - max(marks, default=0), set())
            while (await _succeeded(connection)) < count:
                await asyncio.sleep(0.2)
            marks[count] = process.memory_info().rss / 2**20
    first, last = marks.values()
    return {"runs": sizes.runs, "runs_per_s": round(sizes.runs / (time.perf_counter() - began), 1),
            "mb_after_a_fifth": round(first, 1), "mb_after_all": round(last, 1)}  # fmt: skip


async def _succeeded(connection: Connection) -> int:
    text = (await connection.get("/metrics")).body.decode()
    found = re.search(r'^impasto_runs\{state="succeeded"\} ([0-9.e+]+)', text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def _milliseconds(took_s: list[float]) -> dict[str, float]:
    ordered = sorted(took_s)
    at_95 = ordered[int(0.95 * (len(ordered) - 1))]
    return {
        "median_ms": round(1e3 * statistics.median(ordered), 2),
        "p95_ms": round(1e3 * at_95, 2),
    }


@contextmanager
def _serving(folder: Path, *, jobs: int, token: str = "") -> Generator[_Service]:
    """A service in a process of its own, with one video.

    Args:
        folder: for all that it keeps.
        jobs: runs that it carries out at a time.
        token: an admin's, where the folder has been served before.
    """
    (folder / "media/in").mkdir(parents=True, exist_ok=True)
    (folder / "media/in/a.mp4").write_bytes(_VIDEO)
    process = subprocess.Popen(
        [sys.executable, str(_HERE), "--serve", str(folder), "--jobs", str(jobs)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.match("admin token: (.+)", line):
                token = found[1]
            if found := re.match("serving on (.+)", line):
                yield _Service(Client(found[1], token), process.pid)
                break
        else:
            raise RuntimeError("the service does not start")
    finally:
        process.terminate()
        process.stderr.read()
        process.wait()


def _serve(folder: Path, jobs: int) -> None:
    """Be the service: `impasto serve` with another process for the runs."""
    from impasto.config import load_settings
    from impasto.service.serve import serve
    from impasto.service.settings import read_settings

    unlimited = {"submissions_per_minute": 1e9, "burst": 10**9, "open_runs": 10**9,
                 "streams": 10**9}  # fmt: skip
    settings = read_settings(
        {"quota": unlimited, "port": 0, "jobs": jobs},
        media=str(folder / "media"),
        system=str(folder / "system"),
        database=f"sqlite:///{folder / 'service.db'}",
    )
    serve(
        settings,
        load_settings(os.environ),
        say=lambda line: print(line, file=sys.stderr, flush=True),
        job_command=(sys.executable, str(_HERE), "--job"),
    )


def _job() -> None:
    """Be the process of runs: every order is done at once."""
    sys.stdin.readline()
    for _ in sys.stdin:
        print('Ending {"kind": "succeeded", "report": {"frames": 0}}', flush=True)


def main() -> None:
    """Measure and print; or be one of the parts."""
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--quick", action="store_true", help="tiny sizes: does it work at all?")
    words.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    words.add_argument("--jobs", type=int, default=0, help=argparse.SUPPRESS)
    words.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    asked = words.parse_args()
    if asked.job:
        _job()
    elif asked.serve is not None:
        _serve(asked.serve, asked.jobs)
    else:
        with tempfile.TemporaryDirectory(prefix="impasto-service-") as name:
            figures = service(Path(name), QUICK if asked.quick else Sizes())
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
