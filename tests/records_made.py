"""Hypothesis strategies for the records: any value that a run could hold."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import strategies as st

from impasto.fleet import Tail
from impasto.records import (
    Chunk,
    Color,
    Encode,
    Ledger,
    Optimise,
    ScorerSpec,
    Source,
    Spec,
    StreamInfo,
)

names = st.text(st.characters(codec="utf-8"), max_size=12)
hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
ratios = st.fractions(Fraction(1, 255), Fraction(255), max_denominator=255)
colors = st.builds(Color, *[st.sampled_from(["unspecified", "bt709", "tv", "smpte2084"])] * 4)


@st.composite
def ledgers(draw: st.DrawFn, *, longest: int = 80) -> Ledger:
    """Rising timestamps from anywhere, keyframes anywhere: the first frame need not be one."""
    steps = draw(st.lists(st.integers(1, 1 << 33), min_size=0, max_size=longest - 1))
    pts = [draw(st.integers(-(1 << 40), 1 << 40))]
    for step in steps:
        pts.append(pts[-1] + step)
    count = len(pts)
    return Ledger(
        time_base=draw(st.fractions(Fraction(1, 1 << 20), Fraction(1), max_denominator=1 << 20)),
        pts=tuple(pts),
        keyframe=tuple(draw(st.lists(st.booleans(), min_size=count, max_size=count))),
        checksum=tuple(range(count)),
        last_duration=draw(st.integers(1, 1 << 20)),
    )


streams = st.builds(
    StreamInfo,
    st.integers(0, 63),
    st.sampled_from(["video", "audio", "subtitle", "data", "attachment"]),
    names,
    language=names,
    attached_picture=st.booleans(),
)
sources = st.builds(
    Source,
    digest=hexes,
    bytes=st.integers(0, 1 << 40),
    container=names,
    video_index=st.integers(0, 63),
    codec=names,
    width=st.integers(1, 8192),
    height=st.integers(1, 8192),
    rotation=st.sampled_from([0, 90, 180, 270]),
    mirrored=st.booleans(),
    sample_aspect_ratio=ratios,
    pixel_format=names,
    color=colors,
    streams=st.lists(streams, max_size=3).map(tuple),
    chapters=st.integers(0, 9),
    ledger=ledgers(longest=8),
    damage=st.lists(names, max_size=2).map(tuple),
)
encodes = st.builds(
    Encode,
    codec=st.sampled_from(["h264", "h265", "av1", "vp9", "ffv1"]),
    crf=st.integers(0, 63),
    preset=names,
    width=st.integers(1, 16384),
    height=st.integers(1, 16384),
    pixel_format=names,
    sample_aspect_ratio=ratios,
    color=colors,
    rate=ratios,
    threads=st.integers(1, 64),
)
optimisations = st.builds(
    Optimise,
    steps=st.integers(1, 5000),
    style_weight=st.floats(0, 1e6),
    painting_size=st.none() | st.integers(64, 2048),
)
scorer_specs = st.builds(
    ScorerSpec,
    names,
    hexes,
    st.floats(0, 1),
    st.booleans(),
    optimise=st.none() | optimisations,
)
specs = st.builds(
    Spec,
    source=hexes,
    scorer=scorer_specs,
    encode=encodes,
    start=st.integers(0, 100),
    stop=st.integers(101, 200),
    chunk_frames=st.integers(1, 500),
    precision=st.sampled_from(["auto", "f32", "bf16", "f16"]),
    on_error=st.sampled_from(["fail", "pass-through"]),
    tail=st.none() | st.builds(Tail, st.integers(1, 99), st.integers(1, 99)),
)
chunks = st.builds(
    Chunk, st.integers(0, 999_999), st.integers(0, 100), st.integers(101, 200), st.integers()
)
