"""Records survive JSON, and a key changes exactly when something that matters does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impasto.fleet import Tail
from impasto.keys import digest, from_json, run_id, segment_key, to_json
from impasto.records import (
    Check,
    Chunk,
    ChunkCounts,
    Color,
    Done,
    Encode,
    Failed,
    Ledger,
    Optimise,
    Plan,
    Progress,
    Report,
    ScorerSpec,
    Source,
    Spec,
    Task,
)
from impasto.settings import Limits
from records_made import chunks, hexes, ledgers, names, sources, specs

_seconds = st.floats(0, 1e6)
_stages = st.dictionaries(st.sampled_from(["decode", "score", "encode"]), _seconds)
_plans = st.builds(
    Plan,
    specs,
    sources,
    st.lists(chunks, min_size=1, max_size=4).map(tuple),
    st.sampled_from(["f32", "bf16"]),
    st.none() | _seconds,
)
_dones = st.builds(
    Done,
    st.integers(0, 99),
    names,
    hexes,
    st.integers(1, 99),
    _seconds,
    _stages,
    st.lists(_seconds, max_size=3).map(tuple),
    names,
    replaced=st.lists(st.integers(0, 99), max_size=3).map(tuple),
    notes=st.lists(names, max_size=2).map(tuple),
)
_faileds = st.builds(
    Failed, st.integers(0, 99), names, names, st.booleans(), st.booleans(), log=names
)
_checks = st.builds(
    Check, names, st.booleans(), st.integers() | names, st.none() | st.lists(names), note=names
)
_reports = st.builds(
    Report,
    run_id=hexes,
    source=names,
    target=names,
    scorer=names,
    frames=st.integers(1, 99),
    wall_s=_seconds,
    frames_per_s=_seconds,
    chunks=st.builds(ChunkCounts, *[st.integers(0, 99)] * 4),
    replaced_frames=st.integers(0, 9),
    engine=names,
    workers=st.integers(1, 9),
    runtime=names,
    device=names,
    precision=names,
    stage_s=_stages,
    verified=st.booleans(),
    checks=st.lists(_checks, max_size=2).map(tuple),
    notes=st.lists(names, max_size=2).map(tuple),
    gate_db=st.none() | _seconds,
    peak_memory_mb=st.none() | _seconds,
    frame_s=_stages,
)
_tasks = st.builds(Task, run_id=names, source=names, system=names, streams=st.integers(0, 9))
_progress = st.builds(Progress, st.integers(0, 9), names, st.integers(0, 99), _stages)
_results = st.one_of(_dones, _faileds, _checks, _reports, _progress)
_any = st.one_of(_results, _plans, _tasks, specs, sources, ledgers(), chunks)


@given(_any)
def test_a_record_survives_json(record: Any) -> None:
    assert from_json(to_json(record), type(record)) == record


@given(_any)
def test_equal_records_give_equal_bytes(record: Any) -> None:
    assert to_json(from_json(to_json(record), type(record))) == to_json(record)


@given(_reports)
def test_a_record_is_plain_json(report: Report) -> None:
    assert isinstance(msgspec.json.decode(to_json(report)), dict)


@pytest.mark.parametrize("kind", [Plan, Ledger, Done, Task])
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"pts": "x"}', b"\xff", b"null"])
def test_what_is_no_record_is_a_value_error(data: bytes, kind: type[Any]) -> None:
    with pytest.raises(ValueError, match=kind.__name__):
        from_json(data, kind)


_LEDGER = Ledger(Fraction(1, 24), (0, 1), (True, False), (1, 2), 1)
_COLOR = Color("bt709", "tv", "bt709", "bt709")
_SOURCE = Source(
    digest="a" * 64, bytes=9, container="mov", video_index=0, codec="h264", width=16, height=16,
    rotation=0, mirrored=False, sample_aspect_ratio=Fraction(1), pixel_format="yuv420p",
    color=_COLOR, streams=(), chapters=0, ledger=_LEDGER,
)  # fmt: skip
_SPEC = Spec(
    source="a" * 64,
    scorer=ScorerSpec("starry_night", "b" * 64, 0.5, optimise=Optimise(painting_size=512)),
    encode=Encode(
        "h264", 18, "veryfast", 16, 16, "yuv420p", Fraction(1), _COLOR, Fraction(24), threads=1
    ),
    start=0,
    stop=2,
    chunk_frames=1,
    precision="auto",
)
_CHUNK = Chunk(0, 0, 1, 0)
_PLAN = Plan(_SPEC, _SOURCE, (_CHUNK, Chunk(1, 1, 2, 0)), "f32", None)


def _another(value: Any) -> Any:
    """A value of the same type that is not `value`."""
    match value:
        case bool():
            return not value
        case str():
            return "pass-through" if value == "fail" else value + "x"
        case None:  # of a spec: its tail
            return Tail(2, 1)
        case _:
            return value + 1


def _variants(record: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every copy of `record` in which one field, however deep, holds something else."""
    for one in fields(record):
        value = getattr(record, one.name)
        if is_dataclass(value):
            for name, changed in _variants(value, f"{path}{one.name}."):
                yield name, replace(record, **{one.name: changed})
        else:
            yield f"{path}{one.name}", replace(record, **{one.name: _another(value)})


@pytest.mark.parametrize(("name", "changed"), list(_variants(_SPEC)), ids=lambda x: str(x)[:30])
def test_every_field_of_the_spec_is_part_of_every_key(name: str, changed: Spec) -> None:
    assert run_id(changed) != run_id(_SPEC)
    assert segment_key(replace(_PLAN, spec=changed), _CHUNK) != segment_key(_PLAN, _CHUNK)


def test_the_walk_over_the_spec_is_complete() -> None:
    found = {name for name, _ in _variants(_SPEC)}
    assert found >= {"source", "scorer.strength", "encode.color.range", "encode.threads"}
    leaves = sum(len(fields(kind)) for kind in (Spec, ScorerSpec, Optimise, Encode, Color))
    assert len(found) == leaves - 4  # those that hold the other records


def test_a_segment_has_a_key_of_its_own_for_each_cut_and_precision() -> None:
    keys = {
        segment_key(_PLAN, _CHUNK),
        segment_key(_PLAN, _PLAN.chunks[1]),
        segment_key(_PLAN, replace(_CHUNK, stop=2)),
        segment_key(replace(_PLAN, precision="bf16"), _CHUNK),
    }
    assert len(keys) == 4


def test_what_does_not_matter_to_a_segment_leaves_its_key_alone() -> None:
    """The source's path, the gate's reading, the seek point: no pixel depends on them."""
    plan = replace(_PLAN, gate_db=41.0, source=replace(_SOURCE, damage=("a line",)))
    assert segment_key(plan, replace(_CHUNK, seek_pts=-1)) == segment_key(_PLAN, _CHUNK)


@given(specs)
def test_equal_specs_have_equal_ids(spec: Spec) -> None:
    again = from_json(to_json(spec), Spec)
    assert run_id(again) == run_id(spec)
    assert len(run_id(spec)) == 16
    assert digest(again) == digest(spec)


@given(ledgers(longest=20))
def test_a_frame_lasts_until_the_next_one(ledger: Ledger) -> None:
    ends = [pts + ledger.duration(index) for index, pts in enumerate(ledger.pts)]
    assert ends[:-1] == list(ledger.pts[1:])
    assert ends[-1] == ledger.pts[-1] + ledger.last_duration
    assert ledger.average_rate > 0


@pytest.mark.parametrize(
    ("pts", "variable"), [((0,), False), ((0, 41, 83, 125), False), ((0, 41, 84), True)]
)
def test_one_tick_of_rounding_is_no_variable_rate(pts: tuple[int, ...], variable: bool) -> None:
    count = len(pts)
    ledger = Ledger(Fraction(1, 1000), pts, (True,) * count, (0,) * count, 41)
    assert ledger.variable_frame_rate is variable


@given(sources)
def test_a_quarter_turn_swaps_the_sides(source: Source) -> None:
    pair = source.width, source.height
    shown = source.display_width, source.display_height
    turned = source.rotation in {90, 270}
    assert shown == (pair[::-1] if turned else pair)
    assert source.display_aspect in {source.sample_aspect_ratio, 1 / source.sample_aspect_ratio}


def test_limits_are_generous_and_finite() -> None:
    assert all(value > 0 for value in (getattr(Limits(), one.name) for one in fields(Limits)))
