"""Prove, on the finished file, that nothing was lost: decode it from end to end and compare."""

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from av.container import InputContainer

from impasto.media.container import open_source
from impasto.media.pixels import target_color
from impasto.media.probe import probe
from impasto.media.stitch import Selection, blank, due, packets_of, select, timeless
from impasto.protocols import File
from impasto.records import Check, Source
from impasto.settings import Limits

_COPIED = frozenset({"audio", "subtitle", "video", "attachment"})
_ADTS_HEADER_BYTES = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What the target should be where it is not the whole source at its own size."""

    start: int = 0  # [start, stop) in frames of the source
    stop: int | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True)
class _Track:
    """What is compared of a copied stream."""

    kind: str
    language: str
    packets: int
    first_s: Fraction | None
    sha256: str


@dataclass(frozen=True, slots=True)
class _Contents:
    """What is compared of a file beside its picture."""

    tracks: tuple[_Track, ...]
    chapters: tuple[str, ...]
    title: str


def verify(
    source_path: File,
    target_path: File,
    *,
    source: Source | None = None,
    expect: Expectation | None = None,
    limits: Limits | None = None,
) -> tuple[Check, ...]:
    """Compare a target with its source, decoding every frame.

    Args:
        source_path: the original.
        target_path: what claims to be its painting.
        source: the source's probe, where it is known already.
        expect: a part or another size, where that was asked for.
        limits: for opening both.

    Returns:
        One check for each promise. The target is proven when all are `ok`.

    Raises:
        SourceRefused: one of the files can't be read at all.
    """
    limits, expect = limits or Limits(), expect or Expectation()
    source = source or probe(source_path, limits)
    target = probe(target_path, limits)
    stop = len(source.ledger) if expect.stop is None else expect.stop
    cut = select(source.ledger, expect.start, stop)
    wanted = _contents(source_path, source, cut, limits)
    found = _contents(target_path, target, Selection(Fraction(0), None), limits)
    timestamps, offset_s = _timestamps(source, target, expect.start, stop)
    frames = stop - expect.start
    return (
        Check("frame_count", len(target.ledger) == frames, frames, len(target.ledger)),
        timestamps,
        _equal("decodes", [], list(target.damage)),
        _equal("audio_packets", _bodies(wanted, {"audio"}), _bodies(found, {"audio"})),
        _equal(
            "other_packets",
            _bodies(wanted, _COPIED - {"audio"}),
            _bodies(found, _COPIED - {"audio"}),
        ),
        _sync(wanted, found, offset_s, target.ledger.time_base),
        _streams(source, wanted, found),
        _color(source, target),
        _size(source, target, expect),
        _chapters(wanted, found, cut),
        _equal("title", wanted.title, found.title),
    )


def _equal(name: str, expected: Any, found: Any, note: str = "") -> Check:
    return Check(name, expected == found, expected, found, note)


def _contents(path: File, info: Source, cut: Selection, limits: Limits) -> _Contents:
    with open_source(path, limits) as container:
        chapters = tuple(str(c["metadata"].get("title", "")) for c in container.chapters())
        return _Contents(
            _tracks(container, info, cut), chapters, container.metadata.get("title", "")
        )


def _tracks(container: InputContainer, info: Source, cut: Selection) -> tuple[_Track, ...]:
    """Digest every copied stream that holds something; an empty one leaves no trace in a file."""
    streams = {s.index: s for s in info.streams if s.index != info.video_index}
    hashes = {index: hashlib.sha256() for index, s in streams.items() if s.kind in _COPIED}
    packets = dict.fromkeys(hashes, 0)
    first: dict[int, Fraction] = {}
    for index, stream in streams.items():
        if stream.kind == "attachment":
            hashes[index].update(getattr(container.streams[index], "data", b""))
            packets[index] = 1
    for packet in packets_of(container, [i for i in hashes if not packets[i]]):
        index = packet.stream_index
        if timeless(packet) or (cut.keeps(due(packet)) and not blank(packet, streams[index].codec)):
            body = _without_header(bytes(packet), streams[index].codec)
            if streams[index].codec.startswith("pcm_"):
                # Samples have no packets of their own: each demuxer cuts them as it likes.
                hashes[index].update(body)
                packets[index] = 1
            else:
                hashes[index].update(len(body).to_bytes(4, "big") + body)
                packets[index] += 1
            if not streams[index].attached_picture:
                first.setdefault(index, due(packet))
    return tuple(
        _Track(
            streams[index].kind,
            streams[index].language,
            packets[index],
            first.get(index),
            digest.hexdigest()[:16],
        )
        for index, digest in hashes.items()
        if packets[index]
    )


def _without_header(body: bytes, codec: str) -> bytes:
    """AAC carries an ADTS header in MPEG-TS and none in MP4 (ISO/IEC 13818-7, 6.2)."""
    if codec == "aac" and len(body) > _ADTS_HEADER_BYTES and body[0] == 0xFF and body[1] >= 0xF0:
        return body[_ADTS_HEADER_BYTES + (0 if body[1] & 1 else 2) :]
    return body


def _timestamps(source: Source, target: Source, start: int, stop: int) -> tuple[Check, Fraction]:
    """Compare every PTS; a container may move all streams together, and rounds to its own clock.

    Returns:
        The check, and by how many seconds the target's clock is ahead of the source's.
    """
    ours, theirs = source.ledger, target.ledger
    wanted = [pts * ours.time_base for pts in ours.pts[start:stop]]
    found = [pts * theirs.time_base for pts in theirs.pts]
    offset_s = found[0] - wanted[0]
    exact = (ours.time_base / theirs.time_base).denominator == 1
    # Rounding to a coarser clock is off by up to half a tick, for the first frame and for this one.
    tolerance = Fraction(0) if exact else theirs.time_base
    errors = [abs(f - offset_s - w) for w, f in zip(wanted, found, strict=False)]
    wrong = sum(error > tolerance for error in errors) + abs(len(wanted) - len(found))
    note = "" if exact else (
        f"the target's clock ticks every {float(theirs.time_base) * 1000:.3f} ms; rounding to it "
        f"moved frames by up to {float(max(errors)) * 1000:.3f} ms"
    )  # fmt: skip
    check = Check(
        "timestamps",
        wrong == 0,
        {"frames": len(wanted), "wrong": 0},
        {"frames": len(found), "wrong": wrong},
        note,
    )
    return check, offset_s


def _bodies(contents: _Contents, kinds: frozenset[str] | set[str]) -> list[dict[str, object]]:
    return [
        {"packets": track.packets, "sha256": track.sha256}
        for track in contents.tracks
        if track.kind in kinds
    ]


def _sync(wanted: _Contents, found: _Contents, offset_s: Fraction, tick_s: Fraction) -> Check:
    """Every copied stream starts as far from the picture as it did in the source."""
    drift_s = [
        abs(theirs.first_s - ours.first_s - offset_s)
        for ours, theirs in zip(wanted.tracks, found.tracks, strict=False)
        if ours.first_s is not None and theirs.first_s is not None
    ]
    worst_s, tolerance_s = max(drift_s, default=Fraction(0)), max(tick_s, Fraction(1, 1000))
    return Check(
        "stream_offsets", worst_s <= tolerance_s, f"<= {float(tolerance_s):.6f} s",
        f"{float(worst_s):.6f} s",
    )  # fmt: skip


def _streams(source: Source, wanted: _Contents, found: _Contents) -> Check:
    def shape(contents: _Contents) -> list[str]:
        return [f"{track.kind} {track.language}".strip() for track in contents.tracks]

    left_out = len(source.streams) - 1 - len(wanted.tracks)
    note = f"{left_out} left out: empty, or timed data that no container writes" if left_out else ""
    return _equal("streams", shape(wanted), shape(found), note)


def _color(source: Source, target: Source) -> Check:
    wanted, found = target_color(source), target.color
    same = (wanted.matrix, wanted.primaries, wanted.transfer) == (
        found.matrix, found.primaries, found.transfer
    )  # fmt: skip
    # Limited range is what an untagged stream means.
    same = same and ({wanted.range, found.range} <= {"tv", "unspecified"} or wanted == found)
    note = "tone-mapped from HDR" if source.color.hdr else ""
    return Check("color_tags", same, wanted, found, note)


def _size(source: Source, target: Source, expect: Expectation) -> Check:
    own = (source.display_width, source.display_height)
    wanted = (expect.width or own[0], expect.height or own[1])
    found = (target.display_width, target.display_height)
    shape = source.display_aspect if wanted == own else target.display_aspect
    return _equal("display_size", [*wanted, str(shape)], [*found, str(target.display_aspect)])


def _chapters(wanted: _Contents, found: _Contents, cut: Selection) -> Check:
    if not cut.shift_s and cut.stop_s is None:
        return _equal("chapters", wanted.chapters, found.chapters)
    rest = iter(wanted.chapters)  # a part of the source has a part of them, in order
    in_order = all(title in rest for title in found.chapters)
    return Check("chapters", in_order, wanted.chapters, found.chapters, "of the part")
