"""One contract, every engine: each chunk has exactly one outcome, whatever happens."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from av import VideoFrame

import media_maker
import networks
from crew import FORTY, alive, crew, end_shared, open_engine, surroundings
from frame_mark import draw_frame
from impasto.errors import EngineLost, RequestError
from impasto.keys import run_id, segment_key, to_json
from impasto.media.encode import choose_encode, encode_segment
from impasto.media.pixels import YuvWriter
from impasto.media.probe import probe
from impasto.plan import plan_chunks
from impasto.records import (
    Chunk,
    Codec,
    Done,
    Event,
    Failed,
    Noted,
    Outcome,
    Plan,
    Progress,
    Report,
    ScorerSpec,
    Task,
)
from impasto.request import Options, Request, resolve
from impasto.run import ignore, score
from impasto.stores import Store, open_store
from impasto.worker import model_key, score_chunk
from painting import PLAIN, model_in, settings_in
from served import wait_for

_ENGINES = ("inline", "local", "mpi", "ray")
_CROWDS = ("local", "mpi", "ray")
"""Engines of several workers."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that is planned and waits for its chunks to be scored."""

    task: Task
    plan: Plan
    store: Store

    def cut(self, count: int) -> tuple[Chunk, ...]:
        """`count` chunks, of one frame each but for the last."""
        if not count:
            return ()
        pts = self.plan.source.ledger.pts
        return (
            *(Chunk(i, i, i + 1, pts[0]) for i in range(count - 1)),
            Chunk(count - 1, count - 1, 40, pts[0]),
        )


@pytest.fixture(scope="module", autouse=True)
def _nodes() -> Iterator[None]:
    yield
    end_shared()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines") / "forty.mp4"
    media_maker.make(FORTY, path)
    return path


@pytest.fixture
def prepared(film: Path, tmp_path: Path) -> Prepared:
    return _prepare(film, tmp_path, PLAIN)


def _prepare(film: Path, folder: Path, options: Options) -> Prepared:
    settings = settings_in(folder)
    store = open_store(settings.system_store)
    model = networks.painterly()
    scorer = ScorerSpec("painterly", hashlib.sha256(model).hexdigest())
    source = probe(film)
    spec = resolve(Request(film, folder / "out.mp4", scorer, {}, options), source).spec
    chunks = plan_chunks(source.ledger, start=0, stop=40, chunk_frames=spec.chunk_frames)
    plan = Plan(spec, source, chunks, "f32", None)
    store.put(model_key(scorer), model)
    store.put(f"runs/{run_id(spec)}/plan.json", to_json(plan))
    task = Task(run_id(spec), str(film), store.url)
    return Prepared(task, plan, store)


def _all(
    engine: str, workers: int, task: Task, chunks: Iterable[Chunk]
) -> tuple[list[Outcome], list[Progress]]:
    heard: list[Progress | Noted] = []
    outcomes = list(open_engine(engine, workers=workers).map(task, chunks, heard.append))
    return outcomes, [one for one in heard if isinstance(one, Progress)]


def _indices(outcomes: list[Outcome], kind: type[Outcome]) -> list[int]:
    return sorted(outcome.chunk for outcome in outcomes if isinstance(outcome, kind))


_CREWS = [("inline", 1), ("local", 1), ("local", 4), ("mpi", 1), ("mpi", 3), ("ray", 2)]


@pytest.mark.parametrize(("engine", "workers"), _CREWS)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_every_chunk_has_exactly_one_outcome(
    engine: str, workers: int, count: int, prepared: Prepared
) -> None:
    outcomes, _ = _all(engine, workers, prepared.task, prepared.cut(count))
    assert _indices(outcomes, Done) == list(range(count))
    assert len(outcomes) == count
    assert alive(crew(all_ranks=True)) == []


@pytest.mark.parametrize(
    ("engine", "workers"), [("inline", 1), ("local", 16), ("mpi", 16), ("ray", 16)]
)
def test_many_chunks_on_many_workers_lose_nothing(
    engine: str, workers: int, prepared: Prepared
) -> None:
    """Of a run that is not there, so that a chunk costs next to nothing."""
    chunks = [Chunk(index, 0, 1, 0) for index in range(823)]
    task = replace(prepared.task, run_id="nowhere")
    outcomes, _ = _all(engine, workers, task, reversed(chunks))
    assert sorted(outcome.chunk for outcome in outcomes) == list(range(823))
    assert not any(one.lost_worker for one in outcomes if isinstance(one, Failed))


@pytest.mark.parametrize(
    ("engine", "workers"), [("inline", 1), ("local", 3), ("mpi", 2), ("ray", 2)]
)
def test_forty_chunks_have_forty_segments(engine: str, workers: int, prepared: Prepared) -> None:
    chunks = prepared.cut(40)
    outcomes, _ = _all(engine, workers, prepared.task, chunks)
    assert [one for one in outcomes if isinstance(one, Failed)] == []
    assert _indices(outcomes, Done) == list(range(40))
    for outcome in outcomes:
        assert isinstance(outcome, Done)
        key = segment_key(prepared.plan, chunks[outcome.chunk])
        data = prepared.store.get(f"{key}.mkv")
        assert hashlib.sha256(data).hexdigest() == outcome.segment
        assert outcome.frames == 1
        assert len(outcome.frame_s) == 1
        assert set(outcome.stage_s) == {"decode", "score", "encode"}


@pytest.mark.parametrize("engine", _ENGINES)
def test_a_bad_chunk_does_not_stop_the_others(engine: str, prepared: Prepared) -> None:
    good = prepared.cut(4)
    beyond = Chunk(9, 39, 44, 0)
    outcomes, _ = _all(engine, 1, prepared.task, [good[0], beyond, *good[1:]])
    assert _indices(outcomes, Done) == [0, 1, 2, 3]
    assert _indices(outcomes, Failed) == [9]
    failed = next(one for one in outcomes if isinstance(one, Failed))
    assert not failed.lost_worker
    assert "\n" not in failed.error
    assert "Traceback" in failed.log


@pytest.mark.parametrize("engine", _ENGINES)
def test_a_run_that_is_not_there_fails_chunk_by_chunk(engine: str, prepared: Prepared) -> None:
    outcomes, _ = _all(engine, 1, replace(prepared.task, run_id="nowhere"), prepared.cut(2))
    assert _indices(outcomes, Failed) == [0, 1]


@pytest.mark.parametrize("engine", _ENGINES)
def test_progress_is_heard(engine: str, film: Path, tmp_path: Path) -> None:
    # Large enough to take longer than the interval at which a worker speaks.
    prepared = _prepare(film, tmp_path, replace(PLAIN, size="1024x1024"))
    outcomes, heard = _all(engine, 1, prepared.task, prepared.cut(1))
    assert _indices(outcomes, Done) == [0]
    counts = [progress.frames_done for progress in heard]
    assert counts
    assert counts == sorted(set(counts))
    assert all(0 <= count <= 40 for count in counts)


@pytest.mark.parametrize("engine", _ENGINES)
def test_chunks_are_taken_one_by_one_so_that_a_stop_is_heeded(
    engine: str, prepared: Prepared
) -> None:
    taken: list[int] = []

    def chunks() -> Iterator[Chunk]:
        for chunk in prepared.cut(6):
            taken.append(chunk.index)
            yield chunk

    outcomes = open_engine(engine, workers=1).map(prepared.task, chunks(), lambda _: None)
    next(outcomes)
    assert len(taken) <= 2
    outcomes.close()
    assert len(taken) <= 2


class Again(Iterator[Chunk]):
    """Chunks that may come back after there were none."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self.waiting = [*chunks]

    def __next__(self) -> Chunk:
        if not self.waiting:
            raise StopIteration
        return self.waiting.pop(0)


@pytest.mark.parametrize(("engine", "workers"), _CREWS)
def test_a_chunk_that_is_put_back_is_scored_in_the_same_call(
    engine: str, workers: int, prepared: Prepared
) -> None:
    chunks = Again(prepared.cut(2))
    outcomes: list[Outcome] = []
    for outcome in open_engine(engine, workers=workers).map(prepared.task, chunks, lambda _: None):
        outcomes.append(outcome)
        if len(outcomes) < 5:
            chunks.waiting.append(prepared.cut(2)[0])
    assert [type(outcome) for outcome in outcomes] == [Done] * 6


@pytest.mark.parametrize("engine", ["local", "mpi"])  # on Ray another may not be there yet
def test_a_chunk_that_failed_goes_to_another_worker_where_one_is_free(
    engine: str, prepared: Prepared
) -> None:
    chunks = Again([Chunk(9, 39, 44, 0)])
    outcomes: list[Outcome] = []
    for outcome in open_engine(engine, workers=2).map(prepared.task, chunks, lambda _: None):
        outcomes.append(outcome)
        if len(outcomes) == 1:
            chunks.waiting.append(Chunk(9, 39, 44, 0))
    assert len({outcome.worker for outcome in outcomes}) == 2


@pytest.mark.parametrize("engine", _CROWDS)
def test_closing_early_ends_the_worker_processes(engine: str, prepared: Prepared) -> None:
    outcomes = open_engine(engine, workers=3).map(prepared.task, prepared.cut(20), lambda _: None)
    next(outcomes)
    wait_for(lambda: len(crew()) == 3)  # on Ray the first may be done before the last has begun
    there = crew(all_ranks=True)
    outcomes.close()
    assert alive(there) == []


@pytest.mark.parametrize("engine", _CROWDS)
def test_an_error_in_the_listener_ends_the_worker_processes(
    engine: str, film: Path, tmp_path: Path
) -> None:
    prepared = _prepare(film, tmp_path, replace(PLAIN, size="1024x1024"))

    def listener(_: Progress | Noted) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        list(open_engine(engine, workers=1).map(prepared.task, prepared.cut(1), listener))
    assert alive(crew(all_ranks=True)) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")
def test_a_killed_worker_costs_its_chunk_only(prepared: Prepared) -> None:
    def chunks() -> Generator[Chunk]:
        for chunk in prepared.cut(5):
            if chunk.index == 1:  # halted, so that it certainly has this chunk when it is killed
                crew()[0].send_signal(signal.SIGSTOP)
            yield chunk

    outcomes = open_engine("local", workers=1).map(prepared.task, chunks(), lambda _: None)
    seen = [next(outcomes)]
    (victim,) = crew()
    victim.kill()
    seen += outcomes
    assert _indices(seen, Done) == [0, 2, 3, 4]
    (lost,) = (one for one in seen if isinstance(one, Failed))
    assert lost.chunk == 1
    assert lost.lost_worker
    assert lost.retriable
    assert "SIGKILL" in lost.error
    assert str(victim.pid) in lost.worker
    assert len({one.worker for one in seen if isinstance(one, Done)}) == 2


@pytest.mark.parametrize(("engine", "workers"), [("local", 1), ("mpi", 2)])
@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_a_worker_told_to_end_gives_its_chunk_back_and_takes_no_more(
    engine: str, workers: int, prepared: Prepared
) -> None:
    told: list[psutil.Process] = []

    def chunks() -> Generator[Chunk]:
        for chunk in prepared.cut(12):
            if chunk.index == 4:
                told.append(crew()[0])
                told[0].send_signal(signal.SIGTERM)
            yield chunk

    outcomes, _ = _all(engine, workers, prepared.task, chunks())
    lost = [one for one in outcomes if isinstance(one, Failed)]
    assert sorted(outcome.chunk for outcome in outcomes) == list(range(12))
    assert len(lost) <= 1
    assert all(one.lost_worker and one.retriable for one in lost)


def test_a_killed_rank_ends_its_job_and_every_chunk_that_was_given_out_is_accounted_for(
    prepared: Prepared,
) -> None:
    outcomes = open_engine("mpi", workers=2).map(prepared.task, prepared.cut(12), lambda _: None)
    seen = [next(outcomes)]
    there = crew(all_ranks=True)
    crew()[0].kill()
    with pytest.raises(EngineLost, match="MPI ended the others"):
        seen.extend(outcomes)
    assert alive(there) == []
    assert len({outcome.chunk for outcome in seen}) == len(seen)
    lost = [one for one in seen if isinstance(one, Failed)]
    assert 1 <= len(lost) <= 2
    assert all(one.lost_worker and one.retriable for one in lost)


@pytest.mark.parametrize(
    ("engine", "signals", "per_kill"),
    [
        ("local", [signal.SIGKILL, signal.SIGTERM] * 25, 1),
        ("mpi", [signal.SIGTERM, signal.SIGKILL, signal.SIGKILL], 2),  # the job's two chunks
        ("ray", [signal.SIGKILL] * 4, 1),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_workers_killed_at_random_change_no_byte(
    engine: str, signals: list[int], per_kill: int, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    times = tuple(range(0, (2 * len(signals) + 20) * 512, 512))
    media_maker.make(replace(FORTY, pts=times), film)
    random = np.random.default_rng(7)
    left = [*signals]
    losses: Counter[int] = Counter()

    def on_event(event: Event) -> None:
        if isinstance(event, Failed):
            losses[event.chunk] += 1
        elif isinstance(event, Done):
            del losses[event.chunk]
            unlucky = max(losses.values(), default=0) > 2  # the fifth loss would end the run
            if left and not unlucky and (there := crew()):
                with contextlib.suppress(psutil.NoSuchProcess):  # it was just about to end
                    there[random.integers(len(there))].send_signal(left[-1])
                    left.pop()

    def paint(name: str, options: Options, on_event: Callable[[Event], None]) -> Report:
        folder = tmp_path / name
        folder.mkdir()
        model = model_in(folder, networks.painterly())
        around = surroundings(options.engine or "local")
        return score(film, model=model, target=folder / "out.mp4", options=options,
                     settings=replace(settings_in(folder), surroundings=around),
                     on_event=on_event)  # fmt: skip

    small = replace(PLAIN, chunk_frames=1)
    paint("undisturbed", small, ignore)
    killed = replace(small, engine=engine, workers=2, restarts=len(signals))
    report = paint("killed", killed, on_event)
    assert left == []
    assert report.chunks.retried <= per_kill * len(signals)
    undisturbed, other = (tmp_path / name / "out.mp4" for name in ("undisturbed", "killed"))
    assert other.read_bytes() == undisturbed.read_bytes()


@pytest.mark.parametrize("engine", _CROWDS)
@pytest.mark.skipif(sys.platform != "linux", reason="limits of other processes as Linux has")
def test_a_worker_that_fails_every_chunk_does_not_use_up_their_attempts(
    engine: str, tmp_path: Path
) -> None:
    """From its first chunk on one of two can't write any file, as on a broken disk."""
    film = tmp_path / "film.mp4"
    media_maker.make(replace(FORTY, pts=tuple(range(0, 120 * 512, 512))), film)
    broken: list[psutil.Process] = []
    failed: list[Failed] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Failed):
            failed.append(event)
        elif isinstance(event, Done) and not broken and len(there := crew()) == 2:
            broken.append(there[0])
            there[0].rlimit(psutil.RLIMIT_FSIZE, (0, 0))

    options = replace(PLAIN, chunk_frames=1, engine=engine, workers=2)
    settings = replace(settings_in(tmp_path), surroundings=surroundings(engine))
    report = score(film, model=model_in(tmp_path, networks.painterly()),
                   target=tmp_path / "out.mp4", options=options, settings=settings,
                   on_event=on_event)  # fmt: skip
    assert report.verified
    assert {one.worker.partition("/")[2] for one in failed} == {str(broken[0].pid)}
    assert 2 <= len(failed) <= 6  # after 2 in a row it waits for 4 chunks, then 8, 16, 32 and 64


def test_all_workers_killed_at_once_are_all_replaced(prepared: Prepared) -> None:
    outcomes = open_engine("local", workers=3).map(prepared.task, prepared.cut(12), lambda _: None)
    seen = [next(outcomes)]
    for victim in crew():
        victim.kill()
    seen += outcomes
    assert sorted(outcome.chunk for outcome in seen) == list(range(12))
    assert len(_indices(seen, Failed)) <= 3
    assert crew() == []


def test_a_module_in_the_current_folder_is_not_imported(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "json.py").write_text("raise SystemExit('trapped')\n")
    monkeypatch.chdir(trap)
    outcomes, _ = _all("local", 1, prepared.task, prepared.cut(1))
    assert _indices(outcomes, Done) == [0]


def test_segments_are_the_same_bytes_wherever_they_are_scored(
    prepared: Prepared,
) -> None:
    chunks = prepared.plan.chunks
    assert len(chunks) > 3
    expected = _segments([score_chunk(replace(prepared.task, streams=1), c) for c in chunks])
    orders: list[tuple[str, int, int, Callable[[Iterable[Chunk]], Iterable[Chunk]]]] = [
        ("inline", 1, 2, tuple),
        ("local", 1, 1, tuple),
        ("local", 2, 2, lambda these: reversed(tuple(these))),
        ("local", 3, 0, tuple),
        ("mpi", 2, 0, lambda these: reversed(tuple(these))),
        ("ray", 2, 0, lambda these: reversed(tuple(these))),
    ]
    for engine, workers, streams, order in orders:
        outcomes, _ = _all(engine, workers, replace(prepared.task, streams=streams), order(chunks))
        assert _segments(outcomes) == expected


def _segments(outcomes: list[Outcome]) -> dict[int, str]:
    return {outcome.chunk: outcome.segment for outcome in outcomes if isinstance(outcome, Done)}


@pytest.mark.parametrize(
    ("codec", "width", "height", "times"),
    [
        ("h264", 192, 108, 60),
        ("h264", 64, 64, 60),
        ("h265", 192, 108, 8),
        ("av1", 192, 108, 8),
        ("vp9", 192, 108, 8),
        ("ffv1", 192, 108, 8),
    ],
)
def test_an_encoder_gives_the_same_bytes_every_time(
    codec: Codec, width: int, height: int, times: int, prepared: Prepared
) -> None:
    """x264 with its usual settings fails this one time in eight."""
    encode, notes = choose_encode(
        prepared.plan.source, codec=codec, crf=None, preset=None, width=width, height=height
    )
    assert notes == ()
    grain = np.random.default_rng(3).integers(-20, 20, (7, height, width, 3))
    pictures = [
        (draw_frame(number, height, width) + grain[number]).clip(0, 255).astype(np.uint8)
        for number in range(7)
    ]
    to_yuv = YuvWriter(encode)
    segments = {encode_segment(map(to_yuv, pictures), encode) for _ in range(times)}
    assert len(segments) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("codec", ["h264", "h265", "av1", "vp9", "ffv1"])
def test_no_encoder_gives_its_threads_or_ours_more_than_their_share_of_the_processor(
    codec: Codec, prepared: Prepared
) -> None:
    """As SVT-AV1 does for root."""
    encode, _ = choose_encode(
        prepared.plan.source, codec=codec, crf=None, preset=None, width=128, height=128
    )
    to_yuv = YuvWriter(encode)
    policies: set[int] = set()

    def frames() -> Iterator[VideoFrame]:
        for number in range(3):
            yield to_yuv(draw_frame(number, 128, 128))
            policies.update(os.sched_getscheduler(one.id) for one in psutil.Process().threads())

    encode_segment(frames(), encode)
    assert policies == {os.SCHED_OTHER}
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.parametrize("size", [(64, 100), (48, 48), (200, 16)])
def test_h265_is_refused_for_pictures_so_small_that_its_encoder_breaks(
    size: tuple[int, int], prepared: Prepared
) -> None:
    with pytest.raises(RequestError, match="more than 64 pixels a side"):
        choose_encode(
            prepared.plan.source, codec="h265", crf=None, preset=None, width=size[0], height=size[1]
        )


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_target_is_the_same_bytes_on_every_engine(
    suffix: str, film: Path, tmp_path: Path
) -> None:
    targets = set()
    for engine, workers in [("inline", 1), ("local", 1), ("local", 3), ("mpi", 2), ("ray", 2)]:
        folder = tmp_path / f"{engine}{workers}"
        folder.mkdir()
        report = score(
            film,
            model=model_in(folder, networks.painterly()),
            target=folder / f"out{suffix}",
            options=replace(PLAIN, engine=engine, workers=workers),
            settings=replace(settings_in(folder), surroundings=surroundings(engine)),
        )
        assert (report.engine, report.workers) == (engine, workers)
        assert report.cost is not None  # all workers are on one machine, whose time it is
        assert sum(report.cost.node_s.values()) <= report.wall_s + 0.01
        targets.add(hashlib.sha256((folder / f"out{suffix}").read_bytes()).hexdigest())
    assert len(targets) == 1


@pytest.mark.parametrize(
    ("name", "workers", "says"),
    [
        ("inline", 2, "inline"),
        ("local", 0, "at least 1, got 0"),
        ("local", -1, "at least 1, got -1"),
        ("spark", None, "unknown engine 'spark'"),
        ("", None, "unknown engine ''"),
    ],
)
def test_an_engine_that_is_not_there_is_a_wrong_request(
    name: str, workers: int | None, says: str
) -> None:
    with pytest.raises(RequestError, match=says):
        open_engine(name, workers=workers)
