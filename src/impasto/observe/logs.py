"""A run's log: what its driver and its workers did and printed, in one place of the system store.

    runs/<run id>/logs/<chunk>-<attempt>.jsonl    one attempt at a chunk
                       driver-<number>.jsonl      what the driver says, in parts
                       job-<start>-<attempt>.jsonl    what a service's process left at its death

In a service, runs of several users can share a plan and its chunks. What the driver writes lies
under the id of the service's run then, and under the plan's only what workers say of their chunks.

Object stores can't append, so each is an object of its own, written whole: by the worker whose
chunk is done, by the driver for a chunk that failed or lost its worker. A line is JSON, so nothing
in it can end it or pass for another. Secrets are taken out. What grows too long is cut in its
middle, and a line says how much.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from impasto.errors import RequestError
from impasto.keys import from_json, to_json
from impasto.observe.redact import redact
from impasto.records import Done, Failed
from impasto.stores import Entry, Store
from impasto.wording import plural

_ATTEMPT_BYTES = 256 * 1024
_RUN_BYTES = 64 << 20
"""Of all first attempts together: with many chunks each has less room, but `_LEAST_BYTES`."""
_LEAST_BYTES = 2048
_TEXT_CHARACTERS = 2000
_MOST_ATTEMPTS = 20
"""Kept of a chunk; the last one takes the place of its predecessor."""

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What a chunk or a run took."""

    frames: int
    wall_s: float
    stage_s: dict[str, float]
    """Busy seconds of decode, score, encode, and for a run of the others."""
    frame_s: tuple[float, ...] = ()
    """Seconds of scoring for each frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line."""

    time: str
    """ISO 8601 in UTC; for what a library printed, when its chunk ended."""
    run: str
    text: str
    level: Level = "info"
    stage: str = ""
    """Of the run: probe, plan, score, stitch, verify, or "end" for the last line of a start."""
    worker: str = ""
    """Empty for the driver."""
    chunk: int | None = None
    attempt: int | None = None
    """Counted from 1 for each chunk, over all starts of the run."""
    printed: bool = False
    """Whether it comes from the standard output or standard error of the worker's process."""
    timing: Timing | None = None


def now() -> str:
    """The time as lines have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def folder(run_id: str) -> str:
    """Where a run's log lies in the system store."""
    return f"runs/{run_id}/logs"


# --- writing ----------------------------------------------------------------------------------


def keep_attempt(
    store: Store, run_id: str, outcome: Done | Failed, printed: str, *, chunks: int
) -> None:
    """Write what became of an attempt at a chunk.

    Args:
        store: the system store.
        run_id: whose chunk it was.
        outcome: how it ended.
        printed: by the process that had it, and its traceback.
        chunks: of the whole run; they share its room.

    Raises:
        RunFailed: the store does not take it.
    """
    base = Line(time=now(), run=run_id, text="", stage="score", worker=outcome.worker,
                chunk=outcome.chunk)  # fmt: skip
    lines = [replace(base, text=text, printed=True) for text in redact(printed).splitlines()]
    lines += _ending(outcome, base)
    room = min(_ATTEMPT_BYTES, max(_LEAST_BYTES, _RUN_BYTES // max(1, chunks)))

    def part(attempt: int) -> bytes:
        numbered = [replace(line, attempt=attempt) for line in lines]
        return _join(numbered, room, replace(base, attempt=attempt, level="warning"))

    *keys, last = attempt_keys(run_id, outcome.chunk)
    for attempt, key in enumerate(keys, 1):
        if store.put_new(key, part(attempt)):
            return
    store.put(last, part(_MOST_ATTEMPTS))


def attempt_keys(run_id: str, chunk: int) -> list[str]:
    """Where the attempts at a chunk are written, the first one first."""
    numbers = range(1, _MOST_ATTEMPTS + 1)
    return [f"{folder(run_id)}/{chunk:06d}-{number}.jsonl" for number in numbers]


def _ending(outcome: Done | Failed, base: Line) -> list[Line]:
    if isinstance(outcome, Failed):
        return [replace(base, text=redact(outcome.error), level="error")]
    timing = Timing(
        frames=outcome.frames,
        wall_s=round(outcome.wall_s, 4),
        stage_s={name: round(seconds, 4) for name, seconds in outcome.stage_s.items()},
        frame_s=tuple(round(seconds, 4) for seconds in outcome.frame_s),
    )
    return [
        *(replace(base, text=redact(note), level="warning") for note in outcome.notes),
        replace(
            base, text=f"{plural(outcome.frames, 'frame')} in {outcome.wall_s:.2f} s", timing=timing
        ),
    ]


def _join(lines: Sequence[Line], room: int, notice: Line) -> bytes:
    """The lines' bytes, where they are too many with a notice for those in the middle."""
    encoded = [encode(line) for line in lines]
    if sum(map(len, encoded)) <= room:
        return b"".join(encoded)
    # The end tells how it ended, so the larger half is its.
    first, last, left = 0, len(encoded), room // 3
    while first < last and len(encoded[first]) <= left:
        left -= len(encoded[first])
        first += 1
    left += room - room // 3
    while last > first and len(encoded[last - 1]) <= left:
        last -= 1
        left -= len(encoded[last])
    cut = encoded[first:last]
    said = replace(notice, text=f"{plural(len(cut), 'line')} cut here, {sum(map(len, cut))} bytes")
    return b"".join([*encoded[:first], encode(said), *encoded[last:]])


def encode(line: Line) -> bytes:
    """A line as it is stored, with its end."""
    more = len(line.text) - _TEXT_CHARACTERS
    if more > 0:
        text = f"{line.text[:_TEXT_CHARACTERS]} ({plural(more, 'character')} cut)"
        line = replace(line, text=text)
    # A file name's undecodable bytes are surrogates, which no JSON can hold.
    text = line.text.encode("utf-8", "backslashreplace").decode()
    return to_json(replace(line, text=text)) + b"\n"


def forget(store: Store, run_id: str) -> None:
    """Remove the log of an earlier run of that id."""
    for entry in list(store.list(folder(run_id))):
        store.delete(entry.key)


# --- reading ----------------------------------------------------------------------------------


def read(
    store: Store, run_id: str, *, plan_id: str | None = None, after: str = "", limit: int = 1000
) -> tuple[list[Line], str]:
    """Read a run's log in the order in which its parts were finished.

    Args:
        store: the system store.
        run_id: whose log.
        plan_id: of a service's run: whose chunks it has.
        after: the cursor of the page before; empty begins anew. While the run goes on, a part
            that is finished in the same moment as the last one can be missed: `follow` misses none.
        limit: lines at most.

    Returns:
        The lines, and the cursor for what follows; it is `after` itself where nothing does.

    Raises:
        RequestError: `after` is no cursor.
        RunFailed: the store does not give it.
    """
    begun, line = _cursor(after)
    page: list[Line] = []
    for entry in _parts(store, run_id, plan_id):
        place = _place(entry)
        if place < begun:
            continue
        if len(page) >= limit:
            break
        first = line if place == begun else 0
        found = _lines(store, entry.key)[first:][: limit - len(page)]
        if found:
            page += found
            after = f"{place[0]}/{place[1]}/{first + len(found)}"
    return page, after


def last(store: Store, run_id: str) -> Line | None:
    """The last line that the run's driver, or its process in a service, has written."""
    for entry in reversed(_parts(store, run_id)):
        part = _lines(store, entry.key)
        if part and not part[-1].worker:
            return part[-1]
    return None


def lines(store: Store, run_id: str) -> Iterator[Line]:
    """Yield a run's whole log, as it is now, in the order of `read`."""
    for entry in _parts(store, run_id):
        yield from _lines(store, entry.key)


def follow(
    store: Store,
    run_id: str,
    *,
    every_s: float = 1.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Line]:
    """Yield the lines of a run's log as its parts are finished, until the run has ended."""
    seen: set[str] = set()
    ended = False
    while not ended:
        new = [entry for entry in _parts(store, run_id) if entry.key not in seen]
        for entry in new:
            seen.add(entry.key)
            part = _lines(store, entry.key)
            yield from part
            if part and not part[-1].worker:
                ended = part[-1].stage == "end"
        if not new:
            sleep(every_s)


def _parts(store: Store, run_id: str, plan_id: str | None = None) -> list[Entry]:
    found = list(store.list(folder(run_id)))
    if plan_id is not None:
        chunks = store.list(folder(plan_id))
        found += [each for each in chunks if each.key.rpartition("/")[2][:1].isdigit()]
    return sorted((each for each in found if each.key.endswith(".jsonl")), key=_place)


def _place(entry: Entry) -> tuple[str, str]:
    """Where a part stands among the others."""
    moment = entry.modified.astimezone(UTC).isoformat(timespec="microseconds")
    _, owner, _, name = entry.key.rsplit("/", 3)
    return moment, f"{name}-{owner[:12]}"


def _cursor(after: str) -> tuple[tuple[str, str], int]:
    if not after:
        return ("", ""), 0
    moment, _, rest = after.partition("/")
    name, _, line = rest.partition("/")
    if not (name and line.isascii() and line.isdecimal()):
        raise RequestError(f"{after!r} is no cursor of a log; give what the page before gave")
    return (moment, name), int(line)


def _lines(store: Store, key: str) -> list[Line]:
    try:
        data = store.get(key)
    except FileNotFoundError:  # removed since it was listed
        return []
    found = []
    for each in data.splitlines():
        try:
            found.append(from_json(each, Line))
        except ValueError:
            raise RequestError(f"{key} was not written by this version of Impasto") from None
    return found
