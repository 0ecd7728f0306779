"""Time, money and chunk sizes computed before a run, and the seconds added up after it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import media_maker
import networks
from impasto.cli import main
from impasto.config import load_settings
from impasto.errors import RequestError
from impasto.estimate import idle_advice
from impasto.fleet import (
    Fleet,
    Price,
    Tail,
    Work,
    best_chunk_frames,
    best_tail,
    bill,
    chunk_bounds,
    cost_of,
    expected_run_s,
    expected_s,
    find_price,
    score_s,
)
from impasto.keys import from_json, run_id, segment_key
from impasto.plan import plan_chunks
from impasto.records import (
    Chunk,
    Done,
    Failed,
    Ledger,
    Outcome,
    Plan,
    Progress,
    Report,
    Spec,
    Task,
)
from impasto.request import Options
from impasto.run import score
from impasto.stores import open_store
from impasto.styles import import_checkpoint
from impasto.timesheet import Timesheet
from media_table import MediaCase
from painting import PLAIN, model_in, settings_in
from records_made import ledgers, specs

works = st.builds(
    Work,
    frame_s=st.floats(0.001, 10),
    chunk_s=st.floats(0.01, 5),
    start_s=st.floats(0, 60),
    before_s=st.floats(0, 100),
    after_s=st.floats(0, 100),
)
fleets = st.builds(
    Fleet,
    nodes=st.integers(1, 300),
    workers_per_node=st.integers(1, 8),
    boot_s=st.floats(0, 300),
    preemptions_per_hour=st.just(0.0) | st.floats(0.01, 20),
)
lengths = st.lists(st.integers(1, 500), min_size=1, max_size=60)


@given(works, fleets, st.integers(1, 100_000))
def test_the_best_chunk_beats_its_neighbours(work: Work, fleet: Fleet, frames: int) -> None:
    best = best_chunk_frames(work, fleet, frames)
    least, most = chunk_bounds(work, fleet, frames)
    assert least <= best <= most
    cost = expected_run_s(best, work, fleet, frames)
    for other in (least, best // 2, best - 1, best + 1, 2 * best, most):
        if least <= other <= most:
            assert cost <= expected_run_s(other, work, fleet, frames) * (1 + 1e-9)


@given(works, fleets, st.floats(0, 30), st.floats(0, 5))
def test_more_failures_make_chunks_shorter_and_dearer_chunks_longer(
    work: Work, fleet: Fleet, failures: float, dearer_s: float
) -> None:
    best = best_chunk_frames(work, fleet, 50_000)
    assert best_chunk_frames(replace(work, chunk_s=work.chunk_s + dearer_s), fleet, 50_000) >= best
    rate = fleet.preemptions_per_hour + failures
    # Beyond two losses among the last chunks, one is as good as certain: its price is paid anyhow.
    losses = rate / 3600 * fleet.nodes * (work.chunk_s + best * work.frame_s)
    if losses <= 2:
        assert best_chunk_frames(work, replace(fleet, preemptions_per_hour=rate), 50_000) <= best


def test_the_best_chunk_is_youngs_where_failures_are_rare() -> None:
    work, fleet = Work(frame_s=0.001, chunk_s=0.1), Fleet(preemptions_per_hour=1.0)
    youngs_s = math.sqrt(2 * 0.1 * 3600 / 2)  # two stops an hour: the node's, and everybody's
    assert best_chunk_frames(work, fleet, 10**9) * 0.001 == pytest.approx(youngs_s, rel=0.02)


@given(st.floats(0.001, 1000), st.floats(0.01, 20), st.floats(0, 300))
def test_failures_cost_what_daly_says(length_s: float, rate: float, restart_s: float) -> None:
    fleet = Fleet(preemptions_per_hour=rate)
    expected = expected_s(length_s, fleet, restart_s)
    assert expected >= length_s
    # To first order: half of a chunk and a restart, for each failure.
    likely = rate / 3600 * length_s
    if likely < 0.01:
        loss_s = likely * (length_s / 2 + restart_s)
        assert expected - length_s == pytest.approx(loss_s, rel=0.02, abs=1e-9)
    assert expected_s(length_s, Fleet(), restart_s) == length_s


@given(lengths, works, fleets)
def test_node_seconds_add_up(chunks: list[int], work: Work, fleet: Fleet) -> None:
    found = bill(chunks, work, fleet, 0.5)
    if not math.isfinite(found.wall_s):
        return
    assert all(seconds >= -1e-6 * found.wall_s for seconds in found.node_s.values())
    held_s = fleet.nodes * (fleet.boot_s + work.start_s + found.score_s)
    alone_s = work.before_s + work.after_s
    assert sum(found.node_s.values()) == pytest.approx(held_s + alone_s)
    assert found.node_hours * 0.5 == pytest.approx(found.cost)
    once_s = fleet.boot_s + work.start_s
    assert found.wall_s == pytest.approx(once_s + found.score_s + alone_s)


@given(lengths, works, fleets)
def test_no_schedule_is_faster_than_perfect_or_slower_than_grahams_bound(
    chunks: list[int], work: Work, fleet: Fleet
) -> None:
    steady = replace(fleet, preemptions_per_hour=0.0)
    each_s = [work.chunk_s + length * work.frame_s for length in chunks]
    perfect_s = max(sum(each_s) / fleet.workers, *each_s)
    assert perfect_s <= score_s(chunks, work, steady) * (1 + 1e-9)
    assert score_s(chunks, work, steady) <= 2 * perfect_s * (1 + 1e-9)


@given(ledgers(), st.integers(1, 30), st.integers(1, 9), st.integers(1, 9))
def test_chunks_with_a_tail_tile_the_range_too(
    ledger: Ledger, chunk_frames: int, workers: int, shortest: int
) -> None:
    stop, tail = len(ledger), Tail(workers, shortest)
    chunks = plan_chunks(ledger, start=0, stop=stop, chunk_frames=chunk_frames, tail=tail)
    assert [frame for each in chunks for frame in range(each.start, each.stop)] == list(range(stop))
    assert all(0 < len(chunk) <= chunk_frames + chunk_frames // 4 for chunk in chunks)


def test_chunks_get_finer_towards_the_end_by_halves_of_what_is_left() -> None:
    ledger = Ledger(Fraction(1, 24), tuple(range(1000)), (False,) * 1000, (0,) * 1000, 1)
    chunks = plan_chunks(ledger, start=0, stop=1000, chunk_frames=90, tail=Tail(4, 10))
    sizes = [len(chunk) for chunk in chunks]
    assert sizes[:4] == [90] * 4
    assert sizes[4:8] == [80] * 4  # 640 are left: half of them, for four
    assert sizes[8:12] == [40] * 4
    assert sizes[12:16] == [20] * 4
    assert set(sizes[16:]) == {10}
    even = plan_chunks(ledger, start=0, stop=1000, chunk_frames=90, tail=Tail(1, 10))
    assert even == plan_chunks(ledger, start=0, stop=1000, chunk_frames=90)


@given(works, st.integers(2, 200))
def test_a_tail_ends_where_a_chunk_is_no_longer_worth_itself(work: Work, nodes: int) -> None:
    fleet = Fleet(nodes=nodes)
    frames = best_chunk_frames(work, fleet, 10_000)
    tail = best_tail(work, fleet, frames)
    assert tail.workers == nodes
    assert 1 <= tail.shortest <= frames
    if tail.shortest < frames:
        assert tail.shortest * work.frame_s >= work.chunk_s


def test_waiting_and_booting_again_cost_the_same_at_one_boot() -> None:
    fleet = Fleet(nodes=4, boot_s=120)
    assert idle_advice(fleet, 119).keep_warm
    assert not idle_advice(fleet, 120).keep_warm
    even = idle_advice(fleet, 120)
    assert even.node_s_warm == even.node_s_cold == 480
    assert even.timeout_s == 120


def test_a_price_is_a_number_or_a_name() -> None:
    prices = {"small": Price(0.5, 0.1), "odd:spot": Price(7.0), "firm": Price(1.0)}
    assert find_price("0.25", prices) == Price(0.25)
    assert find_price("small", prices) == Price(0.5, 0.1)
    assert find_price("small:spot", prices) == Price(0.1)
    assert find_price("odd:spot", prices) == Price(7.0)
    for text, words in (("-1", "from 0 up"), ("nan", "from 0 up"), ("huge", "it has firm"),
                        ("firm:spot", "no spot_per_hour")):  # fmt: skip
        with pytest.raises(RequestError, match=words):
            find_price(text, prices)


def test_shares_of_a_cost_add_up() -> None:
    cost = cost_of({"scoring": 1800.0, "lost": 900.0, "driver": 900.0}, 2.0)
    assert cost.total == pytest.approx(2.0)
    assert cost.share == {"scoring": 0.5, "lost": 0.25, "driver": 0.25}
    assert cost_of({"scoring": 0.0}, None).total is None


def test_prices_come_from_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[prices]\n"d4s v5" = {per_hour = 0.5, spot_per_hour = 0.1}\n', "utf-8")
    assert load_settings({}, file).prices == {"d4s v5": Price(0.5, 0.1)}
    for wrong in ("x = 1", "x = {spot_per_hour = 1}", "x = {per_hour = -1}",
                  "x = {per_hour = true}", "x = {per_hour = 1, per_day = 2}"):  # fmt: skip
        file.write_text(f"[prices]\n{wrong}\n", "utf-8")
        with pytest.raises(RequestError, match="'x'"):
            load_settings({}, file)


class Clock:
    """Shows the time that it was set to."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


class Told:
    """An engine that tells what stands in a list, each at its moment."""

    name, workers = "told", 2

    def __init__(self, clock: Clock, moments: list[tuple[float, Outcome | Progress]]) -> None:
        self.clock, self.moments = clock, moments

    def map(
        self, task: Task, chunks: Iterable[Chunk], on_progress: Callable[[Progress], None]
    ) -> Generator[Outcome]:
        for moment, message in self.moments:
            self.clock.s = moment
            if isinstance(message, Progress):
                on_progress(message)
            else:
                yield message


def _done(chunk: int, worker: str, wall_s: float) -> Done:
    return Done(chunk, worker, "", 1, wall_s, {}, (), "")


def test_a_workers_seconds_add_up_through_losses_and_replacement() -> None:
    clock = Clock()
    told = Told(clock, [
        (3.0, Progress(1, "a/2", 1, {"score": 1.0})),
        (5.0, _done(0, "a/1", 3.0)),  # up at 2
        (6.0, Failed(1, "local/2", "killed", lost_worker=True)),  # who tells knows another name
        (9.0, _done(2, "a/1", 3.5)),
        (10.0, _done(1, "a/3", 2.0)),
        (11.0, Failed(3, "a/3", "no")),
        (12.0, _done(3, "a/1", 2.5)),
    ])  # fmt: skip
    sheet = Timesheet(told, now=clock)
    assert len(list(sheet.map(Task("", "", ""), (), lambda _: None))) == 6
    first, lost, third = sorted(sheet.times(), key=lambda each: each.worker)
    assert (first.start_up_s, first.scoring_s, first.waiting_s) == (2.0, 9.0, 1.0)
    assert (lost.start_up_s, lost.lost_s, lost.total_s) == (2.0, 4.0, 6.0)
    assert (third.start_up_s, third.scoring_s, third.lost_s) == (2.0, 2.0, 1.0)
    assert first.total_s + lost.total_s + third.total_s == 2 * 12.0
    assert sum(sheet.node_s().values()) == pytest.approx(12.0)  # two shared one machine
    # Once more, by one worker: the other place waits.
    told.moments = [(20.0, _done(4, "a/1", 6.0))]
    assert len(list(sheet.map(Task("", "", ""), (), lambda _: None))) == 1
    assert sum(sheet.node_s().values()) == pytest.approx(20.0)


@given(specs, st.integers(1, 400), st.integers(1, 9))
def test_whoever_asks_for_computed_chunks_finds_the_run(
    spec: Spec, frames: int, workers: int
) -> None:
    asked = replace(spec, chunk_frames=0, tail=None)
    settled = replace(asked, chunk_frames=frames, tail=Tail(workers, 1, computed=True))
    assert run_id(settled) == run_id(asked)
    assert run_id(replace(settled, tail=None)) != run_id(asked)
    assert run_id(replace(settled, tail=Tail(workers, 1))) != run_id(asked)


_FILM = MediaCase(name="sixty", why="", pts=tuple(range(0, 60 * 512, 512)), width=64, height=48)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("estimate") / "sixty.mp4"
    media_maker.make(_FILM, path)
    return path


def test_computed_chunks_are_kept_for_every_resume(film: Path, tmp_path: Path) -> None:
    options = replace(PLAIN, engine="local", workers=2, chunk_frames="auto", keep=True)
    model, settings = model_in(tmp_path), settings_in(tmp_path)

    def paint(how: Options) -> Report:
        return score(film, model=model, target=tmp_path / "out.mp4", options=how, settings=settings)

    first = paint(options)
    store = open_store(settings.system_store)
    kept = from_json(store.get(f"runs/{first.run_id}/plan.json"), Plan)
    assert kept.spec.tail is not None
    assert kept.spec.tail.workers == 2
    assert 1 <= kept.spec.chunk_frames <= 15  # half of what two would share evenly
    assert any(f"chunks of {kept.spec.chunk_frames} frames" in note for note in first.notes)
    store.delete(f"{segment_key(kept, kept.chunks[0])}.mkv")
    # Another number of workers, another rate: the chunks of the first start hold.
    again = replace(options, engine="inline", workers=1, preemptions_per_hour=9.0, force=True)
    second = paint(again)
    assert second.run_id == first.run_id
    assert second.chunks.total == second.chunks.reused + 1 == len(kept.chunks)
    assert from_json(store.get(f"runs/{first.run_id}/plan.json"), Plan) == kept


def test_a_report_says_where_the_seconds_went_and_what_they_cost(
    film: Path, tmp_path: Path
) -> None:
    settings = replace(settings_in(tmp_path), prices={"small": Price(3.6, 0.36)})
    report = score(
        film, model=model_in(tmp_path), target=tmp_path / "out.mp4",
        options=replace(PLAIN, price="small:spot"), settings=settings,
    )  # fmt: skip
    cost = report.cost
    assert cost is not None
    assert set(cost.node_s) == {"start_up", "waiting", "scoring", "lost", "driver"}
    used_s = sum(cost.node_s.values())
    assert used_s <= report.wall_s + 0.01
    assert cost.total == pytest.approx(used_s / 3600 * 0.36, rel=0.01)
    assert sum(cost.share.values()) == pytest.approx(1, abs=0.001)
    (worker,) = cost.workers
    assert worker.scoring_s > 0
    with pytest.raises(RequestError, match="no price of the configuration"):
        score(film, model=model_in(tmp_path), options=replace(PLAIN, price="huge"),
              settings=settings)  # fmt: skip


@pytest.fixture(scope="module")
def styles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("styles")
    (folder / "invert.onnx").write_bytes(networks.invert())
    import_checkpoint(folder / "invert.onnx", name="inverted", user_styles=folder)
    return folder


@pytest.fixture
def ask(
    film: Path, styles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    monkeypatch.setenv("IMPASTO_STYLES", str(styles))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    return lambda *words: main(["estimate", str(film), "--style", "inverted", *words])


def test_an_estimate_measures_this_machine(
    ask: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["measured"]
    assert told["frames"] == 60
    assert told["fps"] > 0
    assert set(told["stage_s"]) == {"decode", "score", "encode"}
    assert told["fleet"] == {"nodes": 1, "workers_per_node": told["fleet"]["workers_per_node"],
                             "boot_s": 0.0, "preemptions_per_hour": 0.0}  # fmt: skip
    assert told["on_demand"]["cost"] is None
    assert told["spot"] is None
    assert told["idle"] is None
    assert sum(told["time_share"].values()) == pytest.approx(1)


def test_an_estimate_of_a_fleet_prices_both_ways_to_pay(
    ask: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = ["--nodes", "4", "--fps", "2", "--boot", "90", "--price", "0.5", "--spot-price", "0.1",
             "--preemptions-per-hour", "2", "--gap", "00:20:00"]  # fmt: skip
    assert ask(*fleet, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert not told["measured"]
    assert told["fps"] == pytest.approx(2)
    for bill_, price in ((told["on_demand"], 0.5), (told["spot"], 0.1)):
        assert bill_["cost"] == pytest.approx(bill_["node_hours"] * price)
        assert sum(bill_["node_s"].values()) == pytest.approx(bill_["node_hours"] * 3600)
    assert told["on_demand"]["node_s"]["lost"] == 0 < told["spot"]["node_s"]["lost"]
    assert told["spot"]["wall_s"] > told["on_demand"]["wall_s"]
    assert told["binds"] == "boot"
    assert not told["idle"]["keep_warm"]
    assert ask(*fleet) == 0
    page = capsys.readouterr().out
    for words in ("4 nodes, on demand", "spot", "node-hours", "scale to zero", "binds"):
        assert words in page


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--nodes", "0"], "--nodes must be within 1 and 100000, got 0"),
        (["--price", "-1"], "--price must be a number from 0 up"),
        (["--price", "large"], "it has no [prices]"),
        (["--spot-price", "0.1"], "--spot-price needs --price"),
        (["--price", "1", "--spot-price", "nan"], "--spot-price must be a number from 0 up"),
        (["--preemptions-per-hour", "nan"], "--preemptions-per-hour must be within 0 and 3600"),
        (["--preemptions-per-hour", "-1"], "--preemptions-per-hour must be within 0 and 3600"),
        (["--fps", "0"], "--fps must be a number above zero, got 0.0"),
        (["--boot", "soon"], "a time reads"),
        (["--gap", "-5"], "a time reads"),
        (["--workers", "0"], "workers must be at least 1"),
        (["--chunk-frames", "none"], "--chunk-frames must be auto or a number"),
        (["--device", "tpu"], "device 'tpu' is not supported"),
        (["--blend", "a:1,b:1"], "give one of --style and --blend"),
        (["--fps", "0.0001", "--chunk-frames", "60", "--preemptions-per-hour", "3600"],
         "is never finished; give a smaller --chunk-frames"),
    ],
)  # fmt: skip
def test_terms_that_no_fleet_has_are_refused_in_one_line(
    ask: Callable[..., int], capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    assert ask(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("impasto: ")
    assert captured.err.count("\n") == 1
    assert line in captured.err
