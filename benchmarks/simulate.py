"""Fleets of 1 to 10,000 nodes, simulated: `python benchmarks/simulate.py [--quick]`.

Everything that decides is the real thing: the planner cuts the chunks, `fleet` computes their size,
`hand_out` gives them to workers, `attempts` tries lost ones again, `timesheet` adds up the seconds.
Simulated are the nodes, by discrete events in a clock of their own: how long a chunk takes, when a
node is taken away, how long the store and the driver are busy.

Results: benchmarks/results/simulation.json, and figures in docs/images/.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import charts
from impasto.attempts import Attempts, Scored
from impasto.engines.handout import hand_out
from impasto.engines.member import Leaving, Message, Order
from impasto.errors import RunFailed
from impasto.fleet import Fleet, Tail, Work, best_chunk_frames, best_tail, bill
from impasto.plan import default_cut, plan_chunks
from impasto.records import (
    Chunk,
    Color,
    Done,
    Encode,
    Failed,
    Ledger,
    Outcome,
    Plan,
    Progress,
    ScorerSpec,
    Source,
    Spec,
    Task,
)
from impasto.stopping import Stopping
from impasto.timesheet import Timesheet

HERE = Path(__file__).resolve().parent
IMAGES = HERE.parent / "docs" / "images"
RUNS = 8
NODES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 10_000)
FILM = 2 * 3600 * 24
"""Frames of two hours."""
GOP = 48
PRICE, SPOT_PRICE = 0.40, 0.08
"""Of a node for an hour; spot machines are let at about a fifth."""

WORK = Work(frame_s=1 / 35, chunk_s=0.1, start_s=3.0, before_s=FILM * 0.00127,
            after_s=FILM * 0.00117)  # fmt: skip
"""A node of two cores with the style that ships, 640x360, as in docs/performance.md: 35 frames a
second; 1.27 ms a frame to probe and 1.17 ms to stitch and verify."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What happens to a fleet."""

    preemptions_per_hour: float = 0.0
    boot_s: float = 120.0
    stragglers: float = 0.0
    """Share of nodes that are three times as slow."""
    jitter: float = 0.05
    """Standard deviation of a chunk's duration, as a share of it."""
    store_bytes_per_s: float = math.inf
    """Of all writers together."""
    frame_bytes: float = 12_000.0
    """Of a segment, per frame."""
    dispatch_s: float = 0.0005
    """That the driver takes to give a chunk away and hear of it; benchmarks/scheduling.py."""
    seed: int = 7


class Nodes:
    """A crew, as engines have one, whose workers are events in a heap.

    Each seat is a node. One that is taken away comes back after a boot, and loses its chunk.
    """

    def __init__(self, count: int, work: Work, world: World) -> None:
        self.now = 0.0
        self._work, self._world, self._random = work, world, Random(world.seed)  # noqa: S311
        self._up = [world.boot_s + work.start_s] * (count + 1)
        self._dies = [up + self._lifetime() for up in self._up]
        self._lives = [0] * (count + 1)
        slow = round(count * world.stragglers)
        self._slowness = [3.0 if seat <= slow else 1.0 for seat in range(count + 1)]
        self._events: list[tuple[float, int, _Event]] = []
        self._order = [0] * (count + 1)
        """Number of the order that each seat has; what was dropped is heard of no more."""
        self._number = self._pushed = 0
        self._driver_free = self._store_free = 0.0

    def _lifetime(self) -> float:
        rate = self._world.preemptions_per_hour / 3600
        return self._random.expovariate(rate) if rate else math.inf

    def _lose(self, seat: int) -> None:
        self._up[seat] = self._dies[seat] + self._world.boot_s + self._work.start_s
        self._dies[seat] = self._up[seat] + self._lifetime()
        self._lives[seat] += 1

    def give(self, seat: int, order: Order) -> None:
        """See `Crew.give`."""
        self._driver_free = max(self.now, self._driver_free) + self._world.dispatch_s
        begins = max(self._driver_free, self._up[seat])
        takes_s = self._work.chunk_s + len(order.chunk) * self._work.frame_s
        takes_s *= self._slowness[seat] * max(0.5, self._random.gauss(1.0, self._world.jitter))
        lost = begins + takes_s > self._dies[seat]
        self._number += 1
        self._order[seat] = self._number
        event = _Event(seat, order.chunk, self._number, takes_s, "begun")
        if begins < self._dies[seat]:
            self._push(begins, event)
        # Of one that went while it had nothing to do, the driver learns now.
        ends = max(self._driver_free, self._dies[seat]) if lost else begins + takes_s
        self._push(ends, replace(event, kind="lost" if lost else "scored"))

    def _push(self, when: float, event: _Event) -> None:
        self._pushed += 1
        heapq.heappush(self._events, (when, self._pushed, event))

    def hear(self) -> tuple[int, Message]:
        """See `Crew.hear`."""
        while True:
            when, _, event = heapq.heappop(self._events)
            if self._order[event.seat] != event.order:
                continue
            self.now = when
            if event.kind == "scored":  # the segment waits for its turn at the store
                size = len(event.chunk) * self._world.frame_bytes
                self._store_free = max(self.now, self._store_free)
                self._store_free += size / self._world.store_bytes_per_s
                self._push(self._store_free, replace(event, kind="stored"))
                continue
            seat, chunk = event.seat, event.chunk
            name = f"node{seat}/{self._lives[seat]}"
            if event.kind == "begun":
                return seat, Progress(chunk.index, name, 0, {})
            if event.kind == "lost":
                while self._dies[seat] <= self.now:
                    self._lose(seat)
                return seat, Failed(chunk.index, name, "preempted", lost_worker=True)
            return seat, Done(chunk.index, name, "", len(chunk), event.takes_s, {}, (), "simulated")

    def closed_by(self, seat: int, leaving: Leaving) -> Collection[int]:  # noqa: ARG002
        """See `Crew.closed_by`: nobody leaves by itself here."""
        return ()

    def drop(self, seat: int) -> None:
        """See `Crew.drop`."""
        self._order[seat] = 0


@dataclass(frozen=True, slots=True)
class _Event:
    seat: int
    chunk: Chunk
    order: int
    takes_s: float
    kind: str
    """Begun, scored, stored or lost."""


class SimulatedEngine:
    """The nodes behind the hand-out that every engine uses."""

    name = "simulated"

    def __init__(self, nodes: Nodes, workers: int) -> None:
        self.nodes, self.workers = nodes, workers

    def map(
        self, task: Task, chunks: Iterable[Chunk], on_progress: Callable[[Progress], None]
    ) -> Generator[Outcome]:
        yield from hand_out(self.nodes, self.workers, task, chunks, on_progress)


_TASK = Task("simulated", "", "")


def ledger(frames: int) -> Ledger:
    """A film of 24 frames a second with a keyframe every two seconds."""
    marks = tuple(index % GOP == 0 for index in range(frames))
    return Ledger(Fraction(1, 24), tuple(range(frames)), marks, (0,) * frames, 1)


def plan(film: Ledger, cut: str, work: Work, fleet: Fleet) -> Plan:
    """Cut the film: "default" by the picture's size, "static" into one part for each worker, "even"
    and "auto" into the computed size, without and with finer chunks at the end."""
    tail: Tail | None
    frames, tail = default_cut(width=640, height=360)
    if cut == "static":
        frames, tail = -(-len(film) // fleet.workers), None
    elif cut != "default":
        frames = best_chunk_frames(work, fleet, len(film))
        tail = best_tail(work, fleet, frames) if cut == "auto" else None
    chunks = plan_chunks(film, start=0, stop=len(film), chunk_frames=frames, tail=tail)
    encode = Encode("h264", 18, "veryfast", 640, 360, "yuv420p", Fraction(1), Color(), Fraction(24))
    spec = Spec("", ScorerSpec("style", ""), encode, 0, len(film), frames, "bf16", tail=tail)
    none = Ledger(Fraction(1, 24), (0,), (True,), (0,), 1)
    source = Source("", 0, "mov", 0, "h264", 640, 360, 0, False, Fraction(1), "yuv420p", Color(),
                    (), 0, none)  # fmt: skip
    return Plan(spec, source, chunks, "bf16", None)


def simulate(film: Ledger, nodes: int, world: World, cut: str, work: Work = WORK) -> dict[str, Any]:
    """One film on one fleet: what it took, beside what the arithmetic expects.

    Where nodes are taken away, it is the mean of some runs.
    """
    fleet = Fleet(nodes=nodes, boot_s=world.boot_s,
                  preemptions_per_hour=world.preemptions_per_hour)  # fmt: skip
    made = plan(film, cut, work, fleet)
    lengths = [len(chunk) for chunk in made.chunks]
    frames_s = sum(lengths) * work.frame_s
    once_s = frames_s + world.boot_s + work.start_s
    driver_s = work.before_s + work.after_s
    seeds = RUNS if world.preemptions_per_hour else 1
    runs = [_run(made, nodes, replace(world, seed=seed), work) for seed in range(seeds)]
    score_s = fmean(run[0] for run in runs)
    used_s = nodes * score_s + driver_s
    shares = {name: fmean(run[1][name] for run in runs) / used_s for name in runs[0][1]}
    return {
        "nodes": nodes,
        "cut": cut,
        "chunks": len(lengths),
        "longest": max(lengths),
        "shortest": min(lengths),
        "score_s": round(score_s, 1),
        "wall_s": round(score_s + driver_s, 1),
        "expected_s": round(bill(lengths, work, fleet, None).wall_s, 1),
        "speed_up_scoring": round(once_s / score_s, 2),
        "speed_up": round((once_s + driver_s) / (score_s + driver_s), 2),
        "useful": round(frames_s / used_s, 4),
        "share": {name: round(share, 4) for name, share in shares.items()},
        "retried": round(fmean(run[2] for run in runs), 1),
        "cost": round(used_s / 3600 * PRICE, 3),
        "spot_cost": round(used_s / 3600 * SPOT_PRICE, 3),
        "problem": next((run[3] for run in runs if run[3]), ""),
    }


def _run(
    made: Plan, nodes: int, world: World, work: Work
) -> tuple[float, dict[str, float], int, str]:
    """Seconds of scoring, node-seconds by use, retried chunks, and what went wrong."""
    crew = Nodes(nodes, work, world)
    engine = Timesheet(SimulatedEngine(crew, nodes), now=lambda: crew.now)
    scored, problem = Scored({}), ""
    attempts = Attempts(engine, _TASK, made, 0, Stopping(), _nothing, _nothing, _nothing)
    try:
        attempts.make(scored)
    except RunFailed as error:
        problem = str(error)
    node_s = {**engine.node_s(), "driver": work.before_s + work.after_s}
    # Seats that stayed empty: a node that was booting when the last chunk was done, or had none.
    node_s["waiting"] += nodes * crew.now + node_s["driver"] - sum(node_s.values())
    return crew.now, node_s, scored.retried, problem


def _nothing(*_: object) -> None:
    pass


def queue_of_jobs(
    gap_s: float, timeout_s: float, *, jobs: int = 400, seed: int = 7
) -> dict[str, Any]:
    """Films that come by chance to a fleet of 16 that waits `timeout_s` before it lets nodes go."""
    random, world = Random(seed), World()  # noqa: S311
    fleet, film = Fleet(nodes=16, boot_s=world.boot_s), [130] * (24 * 600 // 130)
    work = replace(WORK, before_s=18.0, after_s=17.0)
    busy = bill(film, work, fleet, None)
    warm_s = busy.wall_s - fleet.boot_s
    waits: deque[float] = deque()
    now = free = paid_s = 0.0
    for _ in range(jobs):
        now += random.expovariate(1 / (warm_s + gap_s))
        idle_s = max(0.0, now - free)
        cold = idle_s >= timeout_s
        paid_s += fleet.nodes * (min(idle_s, timeout_s) + (fleet.boot_s if cold else 0.0))
        begins = max(now, free) + (fleet.boot_s if cold else 0.0)
        free = begins + warm_s
        waits.append(free - now)
    return {
        "gap_s": gap_s,
        "timeout_s": timeout_s if math.isfinite(timeout_s) else "never",
        "idle_cost_per_job": round(paid_s / jobs / 3600 * PRICE, 4),
        "answer_s": round(sum(waits) / jobs, 1),
    }


WORLDS = {
    "steady": World(),
    "spot": World(preemptions_per_hour=0.5),
    "stragglers": World(stragglers=0.05),
    "slow store": World(store_bytes_per_s=20e6),
    "all three": World(preemptions_per_hour=0.5, stragglers=0.05, store_bytes_per_s=20e6),
}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Simulate, write results and figures, and return the results."""
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--quick", action="store_true", help="a short film and few nodes")
    words.add_argument("--results", type=Path, default=HERE / "results")
    words.add_argument("--images", type=Path, default=IMAGES)
    asked = words.parse_args(arguments)
    film = ledger(2400 if asked.quick else FILM)
    counts = NODES[:4] if asked.quick else NODES
    work = replace(WORK, before_s=WORK.before_s * len(film) / FILM,
                   after_s=WORK.after_s * len(film) / FILM)  # fmt: skip
    results: dict[str, Any] = {
        "work": asdict(work),
        "worlds": {name: _finite(asdict(world)) for name, world in WORLDS.items()},
        "scaling": {
            name: [simulate(film, nodes, world, "auto", work) for nodes in counts]
            for name, world in WORLDS.items()
        },
        "cuts": {
            name: [simulate(film, counts[-1] if asked.quick else 64, world, cut, work)
                   for cut in ("static", "default", "even", "auto")]
            for name, world in WORLDS.items()
        },
        "queue": list(_queues()),
    }  # fmt: skip
    asked.results.mkdir(parents=True, exist_ok=True)
    target: Path = asked.results / "simulation.json"
    target.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    asked.images.mkdir(parents=True, exist_ok=True)
    charts.draw_all(results["scaling"], asked.images)
    return results


def _queues() -> Iterator[dict[str, Any]]:
    boot_s = World().boot_s
    for gap_s in (30.0, boot_s, 600.0, 3600.0):
        for timeout_s in (0.0, boot_s, math.inf):
            yield queue_of_jobs(gap_s, timeout_s)


def _finite(world: dict[str, Any]) -> dict[str, Any]:
    return {key: value if value != math.inf else None for key, value in world.items()}


def _print(results: dict[str, Any]) -> None:
    for name, rows in results["scaling"].items():
        print(f"\n{name}: nodes, chunks, seconds, expected, speed-up (of scoring), useful")
        for row in rows:
            print("  {nodes:6} {chunks:7} {wall_s:9.1f} {expected_s:9.1f} {speed_up:8.1f} "
                  "{speed_up_scoring:8.1f} {useful:7.2%} {problem}".format(**row))  # fmt: skip
    print("\n64 nodes, seconds of scoring by cut: static, default, even, auto")
    for name, rows in results["cuts"].items():
        print(f"  {name:12}", *(f"{row['score_s']:9.1f}" for row in rows))
    for row in results["queue"]:
        print(" ", row)


if __name__ == "__main__":
    _print(main())
