"""A few seconds of a run on this machine, to learn what its frames and its chunks take."""

import contextlib
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from statistics import fmean

from impasto.engines import open_engine
from impasto.errors import RunFailed
from impasto.keys import run_id, to_json
from impasto.plan import seek_frame
from impasto.records import Chunk, Done, Plan, Precision, Source, Spec, Task
from impasto.runtimes.cpu import usable_cores
from impasto.settings import Settings
from impasto.stores import Place, address, etag_of, handed, open_store
from impasto.worker import model_key

_LEAST_CHUNK_S = 0.02
"""A chunk is never free, whatever a noisy measurement says."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a worker takes on this machine, beside the others that share it."""

    frame_s: float
    """Per frame and worker, with decoding, scoring and encoding side by side."""
    chunk_s: float
    """Per chunk beyond its frames."""
    start_s: float
    """From starting the process to its first chunk."""
    stage_s: dict[str, float]
    """Busy seconds per frame of decode, score and encode; they overlap."""
    device: str


def try_out(
    path: Place,
    source: Source,
    spec: Spec,
    model: bytes,
    precision: Precision,
    *,
    settings: Settings,
    workers: int = 1,
    seconds: float = 3.0,
) -> Trial:
    """Let each worker score four chunks of the part: to get warm, two short ones, a longer one.

    What the longer one takes beyond a short one is its frames'; the rest of a short one is what
    every chunk costs. They go through worker processes like any other's, and a store that is
    thrown away.

    Args:
        path: the source.
        source: its probe.
        spec: what is applied to which frames.
        model: bytes that `spec.scorer` names.
        precision: that it is computed in.
        settings: limits of the run, and what workers don't inherit.
        workers: that share this machine.
        seconds: about how long the longer chunk is to take.

    Raises:
        RunFailed: a chunk can't be scored.
    """
    # Spec's own chunk size is not what is tried, and 0 stands for one that is not known yet.
    plan = Plan(replace(spec, chunk_frames=1, tail=None), source, (), precision, None)
    count = spec.stop - spec.start
    few = max(1, min(4 * usable_cores(), count // 3))
    start = max(spec.start, seek_frame(source.ledger, (spec.start + spec.stop) // 2))
    start = min(start, spec.stop - min(count, 4 * few))
    seek_pts = source.ledger.pts[seek_frame(source.ledger, start)]
    done: dict[int, Done] = {}
    starts_s: list[float] = []

    def chunks() -> Generator[Chunk]:
        for index in range(3 * workers):
            yield Chunk(index, start, start + few, seek_pts)
        # The engine asks for these when third chunks are done, so second ones are known: a first
        # one, which gets its worker warm, takes several times as long.
        length = max(4 * few, round(seconds * few / min(each.wall_s for each in done.values())))
        for index in range(3 * workers, 4 * workers):
            yield Chunk(index, start, min(spec.stop, start + length), seek_pts)

    with tempfile.TemporaryDirectory(prefix="impasto-trial-") as folder:
        store = open_store(folder)
        store.put(model_key(spec.scorer), model)
        store.put(f"runs/{run_id(plan.spec)}/plan.json", to_json(plan))
        task = Task(
            run_id(plan.spec),
            address(path),
            store.url,
            etag=etag_of(path),
            limits=settings.limits,
            access=handed(path),
        )
        began = time.perf_counter()
        engine = open_engine("local", workers=workers, surroundings=settings.surroundings)
        with contextlib.closing(engine.map(task, chunks(), lambda _: None)) as outcomes:
            for outcome in outcomes:
                if not isinstance(outcome, Done):
                    raise RunFailed(f"a trial of {few} frames failed: {outcome.error}")
                if outcome.chunk < workers:
                    starts_s.append(time.perf_counter() - began - outcome.wall_s)
                done[outcome.chunk] = outcome
    inner = [done[index] for index in range(workers, 3 * workers)]
    outer = [done[index] for index in range(3 * workers, 4 * workers)]
    return _read_off(inner, outer, fmean(starts_s))


def _read_off(short: list[Done], long: list[Done], start_s: float) -> Trial:
    short_s, long_s = (fmean(each.wall_s for each in some) for some in (short, long))
    more = long[0].frames - short[0].frames
    frame_s = (long_s - short_s) / more if more else 0.0
    if frame_s <= 0:  # too few frames, or too noisy a machine
        frame_s = long_s / long[0].frames
    frames = sum(each.frames for each in long)
    return Trial(
        frame_s=frame_s,
        chunk_s=max(_LEAST_CHUNK_S, short_s - short[0].frames * frame_s),
        start_s=max(0.0, start_s),
        stage_s={
            name: sum(each.stage_s[name] for each in long) / frames for name in long[0].stage_s
        },
        device=long[0].device,
    )
