"""Results for people: what a run did, what verify found, what a source is."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from impasto.cli.look import err, glyphs
from impasto.cli.text import clean, size, span
from impasto.errors import RunFailed
from impasto.fleet import Cost
from impasto.records import Check, Report, Source
from impasto.wording import count, plural

if TYPE_CHECKING:
    from impasto.observe.logs import Line
    from impasto.preview import PreviewReport

BAR = 24
"""Columns of the longest stage."""
_WHERE = len("chunk 12 attempt 2")


def print_json(value: Any, *, one_line: bool = False) -> None:
    """One JSON object on standard output; ASCII, so that any file name passes any encoding."""
    plain = msgspec.to_builtins(value, enc_hook=_plain)
    typer.echo(json.dumps(plain, ensure_ascii=True, indent=None if one_line else 2))


def _plain(value: Any) -> str:
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    return str(value)


def grid() -> Table:
    """A table without lines: a soft column of names, a column of values."""
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(style="soft", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def listing(*columns: str, elastic: Collection[str]) -> Table:
    """A table of rows under headings; where it is too wide the `elastic` columns alone give way.

    What goes into those is to be wrapped by `shortened`.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="heading")
    for heading in columns:
        # Rich narrows columns that may wrap before those that may not.
        table.add_column(heading, no_wrap=heading not in elastic)
    return table


def shortened(text: str) -> Text:
    """A cell on one line, which ends in an ellipsis where it has no room."""
    return Text(clean(text), no_wrap=True, overflow="ellipsis")


def show(console: Console, table: Table) -> None:
    """Print a table with the margin that everything has."""
    console.print(Padding(table, (0, 2)))


def so_far(done: int, total: int) -> str:
    """How much of something is done; nobody knows before its plan is made."""
    return f"{done} of {total}" if total else "–"


def say(console: Console, *parts: str | tuple[str, str]) -> None:
    """Print a line of pieces, each a text or a pair of text and style."""
    console.print(Padding(Text.assemble(*parts), (0, 2)))


def report(console: Console, done: Report, source: Source | None) -> None:
    """What a run did."""
    signs = glyphs(console)
    good = done.verified and not done.replaced_frames
    console.print()
    mark = (f"{signs.tick} ", "good") if good else (f"{signs.bang} ", "warn")
    say(console, mark, (clean(done.target), "name"))
    say(console, (f"  {_made(done, source)}", "soft"))
    console.print()
    table = grid()
    gap = f" {signs.dot} "
    counted = ", reused ones counted" if done.chunks.reused else ""
    rate = f"{done.frames_per_s:.1f} frames a second{counted}"
    table.add_row("time", f"{span(done.wall_s)}{gap}{rate}")
    table.add_row("chunks", _chunks(done, gap))
    where = [clean(done.engine), plural(done.workers, "worker"), clean(done.runtime),
             clean(done.precision), clean(done.device)]  # fmt: skip
    table.add_row("machine", gap.join(where))
    if done.peak_memory_mb:
        table.add_row("memory", f"{size(done.peak_memory_mb * 1e6)} at most")
    table.add_row("work", _stages(done.stage_s, signs.full))
    if done.cost is not None and done.cost.total is not None:
        table.add_row("cost", _cost(done.cost, gap))
    table.add_row("verified", _verdict(console, done.checks))
    if done.replaced_frames:
        table.add_row("replaced", Text(f"{plural(done.replaced_frames, 'frame')} could not be "
                                       "scored and show the source", style="warn"))  # fmt: skip
    for place, note in enumerate(done.notes):
        table.add_row("" if place else "notes", Text(clean(note), style="warn"))
    table.add_row("run", clean(done.run_id))
    show(console, table)
    console.print()


def sheet(console: Console, made: "PreviewReport") -> None:
    """Where a contact sheet lies, and which picture of it is which."""
    say(console, (clean(made.target), "name"), (f"  {made.width} x {made.height}", "soft"))
    table = grid()
    table.add_row("rows", Text(clean(", ".join(made.styles))))
    table.add_row("columns", "source, " + ", ".join(f"{number:g}" for number in made.strengths))
    show(console, table)


def _made(done: Report, source: Source | None) -> str:
    parts = [plural(done.frames, "frame")]
    if source is not None and len(source.ledger):
        rate = source.ledger.average_rate
        parts.append(f"{float(rate):.3f} fps" + (" on average" if varies(source) else ""))
        parts.append(span(float(done.frames / rate)))
    target = Path(done.target)
    if "://" not in done.target and target.is_file():
        parts.append(size(target.stat().st_size))
    return ", ".join(parts)


def varies(source: Source) -> bool:
    """Whether the source's frame rate varies."""
    return source.ledger.variable_frame_rate


def _chunks(done: Report, gap: str) -> str:
    counts = done.chunks
    words = [str(counts.total)]
    for number, word in ((counts.reused, "reused"), (counts.retried, "retried"),
                         (counts.failed, "failed")):  # fmt: skip
        if number:
            words.append(f"{count(number)} {word}")
    return gap.join(words)


def _stages(stage_s: dict[str, float], sign: str) -> Table:
    """Busy seconds as bars, the longest first."""
    return bars({name: (seconds, span(seconds)) for name, seconds in stage_s.items()}, sign)


def bars(values: dict[str, tuple[float, str]], sign: str) -> Table:
    """Values by name, each with its words, as bars; the longest first, and tiny ones left out."""
    table = Table.grid(padding=(0, 2, 0, 0))
    longest = max((value for value, _ in values.values()), default=0.0)
    for name, (value, words) in sorted(values.items(), key=lambda item: -item[1][0]):
        if value < longest / 200:
            continue
        cells = max(1, round(BAR * value / longest)) if longest else 0
        style = "running" if value == longest else "done"
        table.add_row(Text(clean(name)), Text(words, justify="right"),
                      Text(sign * cells, style=style))  # fmt: skip
    return table


def _cost(cost: Cost, gap: str) -> str:
    """The price of a run, and what it went to."""
    shares = sorted(cost.share.items(), key=lambda item: -item[1])
    parts = [
        f"{name.replace('_', '-')} {100 * part:.0f} %" for name, part in shares if part > 0.005
    ]
    hours = sum(cost.node_s.values()) / 3600
    return gap.join([f"{cost.total:.3g} for {hours:.3g} node-hours", *parts])


def _verdict(console: Console, found: Sequence[Check]) -> Text:
    signs = glyphs(console)
    wrong = [check for check in found if not check.ok]
    if not wrong:
        return Text.assemble((f"{signs.tick} ", "good"), plural(len(found), "check"))
    text = Text(f"{len(wrong)} of {plural(len(found), 'check')} failed", style="bad")
    for check in wrong:
        text.append(f"\n{signs.cross} {fault(check)}", "bad")
    return text


def fault(check: Check) -> str:
    """A failed check in words."""
    words = f"{check.name}: expected {brief(check.expected)}, found {brief(check.found)}"
    return f"{words} ({clean(check.note)})" if check.note else words


def brief(value: Any, width: int = 90) -> str:
    """A value of a check in words, on one line."""
    text = clean(_words(msgspec.to_builtins(value, enc_hook=_plain))) or "none"
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _words(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{key} {_words(inner)}" for key, inner in value.items())
        case list() | tuple():
            return ", ".join(map(_words, value))
        case None:
            return ""
        case _:
            return str(value)


def checks(console: Console, found: Sequence[Check]) -> None:
    """What verify found, check by check."""
    signs = glyphs(console)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in found:
        mark = Text(signs.tick, style="good") if check.ok else Text(signs.cross, style="bad")
        words = brief(check.found)
        if not check.ok:
            words = f"expected {brief(check.expected)}, found {words}"
        if check.note:
            words += f" ({clean(check.note)})"
        table.add_row(mark, check.name, Text(words, style="soft" if check.ok else "bad"))
    console.print()
    show(console, table)
    console.print()


def source_facts(source: Source) -> dict[str, Any]:
    """What `probe --json` prints."""
    ledger = source.ledger
    kinds = [stream.kind for stream in source.streams]
    return {
        "frames": len(ledger),
        "time_base": ledger.time_base,
        "pts_first": ledger.pts[0],
        "pts_last": ledger.pts[-1],
        "last_duration": ledger.last_duration,
        "average_rate": ledger.average_rate,
        "variable_frame_rate": ledger.variable_frame_rate,
        "duration_s": _duration_s(source),
        "keyframes": sum(ledger.keyframe),
        "width": source.width,
        "height": source.height,
        "display_width": source.display_width,
        "display_height": source.display_height,
        "rotation": source.rotation,
        "mirrored": source.mirrored,
        "sample_aspect_ratio": source.sample_aspect_ratio,
        "container": source.container,
        "codec": source.codec,
        "pixel_format": source.pixel_format,
        "color": source.color,
        "hdr": source.color.hdr,
        "audio_streams": kinds.count("audio"),
        "subtitle_streams": kinds.count("subtitle"),
        "chapters": source.chapters,
        "streams": source.streams,
        "bytes": source.bytes,
        "digest": source.digest,
        "damage": source.damage,
    }


def _duration_s(source: Source) -> float:
    ledger = source.ledger
    return float((ledger.pts[-1] + ledger.last_duration - ledger.pts[0]) * ledger.time_base)


def source_page(console: Console, name: str, source: Source) -> None:
    """What the probe learnt, for people."""
    ledger, color = source.ledger, source.color
    table = grid()
    rate = f"{float(ledger.average_rate):.3f} fps" + (", varying" if varies(source) else "")
    table.add_row("frames", f"{plural(len(ledger), 'frame')}, {rate}, {span(_duration_s(source))}")
    turned = f", turned by {source.rotation}°" if source.rotation else ""
    flipped = ", mirrored" if source.mirrored else ""
    sar = source.sample_aspect_ratio
    shape = f", pixels {sar.numerator}:{sar.denominator}" if sar != 1 else ""
    table.add_row("picture", f"{source.width} x {source.height}{turned}{flipped}{shape}")
    table.add_row("codec", clean(f"{source.codec}, {source.pixel_format}"))
    tags = ", ".join((color.matrix, color.range, color.primaries, color.transfer))
    table.add_row("color", clean(tags) + (", HDR" if color.hdr else ""))
    table.add_row("time", f"PTS {ledger.pts[0]} to {ledger.pts[-1]} at {ledger.time_base} s")
    table.add_row("streams", "\n".join(
        clean(f"{stream.kind} {stream.codec} {stream.language}".strip())
        for stream in source.streams))  # fmt: skip
    table.add_row("chapters", str(source.chapters))
    table.add_row("file", f"{size(source.bytes)}, {clean(source.container)}")
    for place, complaint in enumerate(source.damage):
        table.add_row("" if place else "damage", Text(clean(complaint), style="warn"))
    console.print()
    say(console, (clean(name), "name"))
    console.print()
    show(console, table)
    console.print()


def log_line(console: Console, line: "Line") -> None:
    """A line of a run's log."""
    where = line.stage
    if line.chunk is not None:
        again = f" attempt {line.attempt}" if (line.attempt or 1) > 1 else ""
        where = f"chunk {line.chunk}{again}"
    when = datetime.fromisoformat(line.time).astimezone().strftime("%H:%M:%S")
    head, tail = f"{when}  {clean(where):<{_WHERE}}  ", f"  {clean(line.worker)}".rstrip()
    style = {"error": "bad", "warning": "warn"}.get(line.level, "soft" if line.printed else "")
    text = Text.assemble((head, "soft"), (clean(line.text), style), (tail, "soft"))
    console.print(text, soft_wrap=True)


def not_right(target: str, found: Sequence[Check]) -> int:
    """Say what is wrong with a target; returns the exit code."""
    wrong = "; ".join(fault(check) for check in found if not check.ok)
    complain(f"{clean(target)} is not what the source asks for: {wrong}")
    return RunFailed.exit_code


def complain(line: str) -> None:
    """Print a line to standard error."""
    err().print(Text(f"impasto: {line}"), soft_wrap=True)
