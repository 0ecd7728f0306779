"""The live display of a run: a picture on a terminal, sparse lines anywhere else."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from impasto.cli.look import Glyphs, glyphs, gradient
from impasto.cli.progress import STAGES, RunProgress, State
from impasto.cli.text import clean, clock, middle, pace, span
from impasto.records import Event, Failed, Noted
from impasto.wording import count, plural

LINE_EVERY_S = 10.0
"""Where nobody watches, a log grows by a line in this time at most."""

MARGIN = 2
NOTES_SHOWN = 3

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Title:
    """What is being made of what."""

    source: str
    scorer: str


@contextmanager
def follow(
    console: Console,
    title: Title,
    *,
    quiet: bool = False,
    sparse: bool = False,
    clock_s: Clock = time.monotonic,
) -> Iterator[tuple[RunProgress, Callable[[Event], None]]]:
    """Show a run on `console` while the body lasts: `sparse` asks for lines even on a terminal.

    Yields the run's progress and the function that takes its events, from any thread.
    """
    progress = RunProgress()
    lock = threading.Lock()
    live = console.is_terminal and not console.is_dumb_terminal and not sparse
    lines = None if quiet or live else Lines(console, title, progress)

    def on_event(event: Event) -> None:
        with lock:
            now_s = clock_s()
            progress.apply(event, now_s=now_s)
            if lines:
                lines.tell(event, now_s)

    if quiet or lines:
        yield progress, on_event
    else:
        picture = Picture(title, progress, lock, clock_s)
        with Live(picture, console=console, refresh_per_second=8, transient=True):
            yield progress, on_event
    progress.ended_s = clock_s()


class Lines:
    """The display where no terminal is: a line at once for trouble, one now and then otherwise."""

    def __init__(self, console: Console, title: Title, progress: RunProgress) -> None:
        self._console = console
        self._progress = progress
        self._title = f"{clean(title.source)} {glyphs(console).arrow} {clean(title.scorer)}"
        self._told_s: float | None = None

    def tell(self, event: Event, now_s: float) -> None:
        """Write what `event` changed, unless the last line is too young."""
        match event:
            case Noted():
                self._write(f"note: {clean(self._progress.notes[-1])}")
            case Failed():
                self._write(f"chunk {event.chunk} failed on {clean(event.worker)}: "
                            f"{clean(event.error)}")  # fmt: skip
            case _ if self._told_s is None or now_s - self._told_s >= LINE_EVERY_S:
                self._told_s = now_s
                self._write(f"{self._title}: {_sentence(self._progress, now_s)}")

    def _write(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


def _sentence(progress: RunProgress, now_s: float) -> str:
    stage = progress.stage or "starting"
    if progress.plan is None or stage != "score":
        return stage
    words = [f"{stage} {progress.frames_done} of {plural(progress.frames_total, 'frame')}"]
    if (rate := progress.rate(now_s)) is not None:
        words.append(" ".join(pace(rate)))
    if (left_s := progress.left_s(now_s)) is not None:
        words.append(f"{clock(left_s)} left")
    return ", ".join(words)


class Picture:
    """The frame that the live display draws anew several times a second."""

    def __init__(
        self, title: Title, progress: RunProgress, lock: threading.Lock, clock_s: Clock
    ) -> None:
        self._title = title
        self._progress = progress
        self._lock = lock
        self._clock_s = clock_s
        self._began_s = clock_s()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the present state in the console's width."""
        width = max(20, min(options.max_width, 120) - 2 * MARGIN)
        signs = glyphs(console)
        with self._lock:
            now_s = self._clock_s()
            rows = list(self._rows(signs, width, now_s))
        pad = " " * MARGIN
        for row in rows:
            line = Text(pad).append_text(row)
            line.truncate(width + MARGIN, overflow="ellipsis")
            yield line

    def _rows(self, signs: Glyphs, width: int, now_s: float) -> Iterator[Text]:
        progress = self._progress
        yield Text()
        yield self._head(signs, width, now_s)
        yield Text()
        yield _stages(progress, signs, now_s)
        if progress.plan is not None:
            yield Text()
            yield bar(progress.work_done, progress.frames_total, signs, width)
            yield _numbers(progress, signs, now_s)
            yield Text()
            yield _strip(progress, signs, width)
            yield _chunks(progress, signs, width)
        for note in _troubles(progress)[-NOTES_SHOWN:]:
            yield Text(f"{signs.bang} {note}", style="warn")
        yield Text()

    def _head(self, signs: Glyphs, width: int, now_s: float) -> Text:
        passed = clock(now_s - self._began_s)
        style = middle(clean(self._title.scorer), width // 3)
        room = width - len(style) - len(passed) - len(signs.arrow) - 4
        head = Text.assemble((middle(clean(self._title.source), room), "name"),
                             (f" {signs.arrow} ", "soft"), (style, "style"))  # fmt: skip
        return head.append(" " * max(1, width - head.cell_len - len(passed))).append(passed, "soft")


def _stages(progress: RunProgress, signs: Glyphs, now_s: float) -> Text:
    row = Text()
    for name in (*(["join"] if "join" in progress.stages else []), *STAGES):
        row.append("   " if row else "")
        if name not in progress.stages:
            row.append(f"{signs.dot} {name}", "waiting")
            continue
        lasted_s = progress.stage_span_s(name, now_s)
        if name == progress.stage:
            turning = signs.now[int(now_s * 4) % len(signs.now)]
            row.append(f"{turning} {name}", "running")
        else:
            row.append(signs.tick, "good").append(f" {name}").append(f" {span(lasted_s)}", "soft")
    return row


def bar(done: float, total: int, signs: Glyphs, width: int) -> Text:
    """One line of half-cell steps; the empty part is a thinner line, so it shows without colour."""
    total = max(1, total)
    share = f" {int(100 * done // total):3d} %"
    cells = width - len(share)
    halves = int(2 * cells * done // total)
    row = Text()
    for cell in range(cells):
        filled = halves - 2 * cell
        sign = signs.full if filled >= 2 else signs.half if filled == 1 else signs.empty
        row.append(sign, gradient(cell / max(1, cells - 1)) if filled > 0 else "waiting")
    return row.append(share, "name")


def _numbers(progress: RunProgress, signs: Glyphs, now_s: float) -> Text:
    row = Text.assemble((count(progress.frames_done), "name"),
                        (f" of {plural(progress.frames_total, 'frame')}", "soft"))  # fmt: skip
    gap = f"  {signs.dot}  "
    if progress.stage == "score":
        if (rate := progress.rate(now_s)) is not None:
            number, unit = pace(rate)
            row.append(gap, "waiting").append(number, "name").append(f" {unit}", "soft")
        if (left_s := progress.left_s(now_s)) is not None:
            row.append(gap, "waiting").append(clock(left_s), "name").append(" left", "soft")
    if (binding := progress.binding()) is not None:
        name, part = binding
        row.append(gap, "waiting").append(f"{name} binds", "style")
        row.append(f" {100 * part:.0f} %", "soft")
    return row


def _strip(progress: RunProgress, signs: Glyphs, width: int) -> Text:
    """The chunks in the order of the video: one box each where there is room, else compressed."""
    row = Text()
    chunks = len(progress.states)
    if chunks == 0 or chunks > width // 2:
        for state in progress.strip(width):
            row.append(signs.cells[state], state.name.lower())
        return row
    edges = [place * (width + 1) // chunks for place in range(chunks + 1)]
    for place, state in enumerate(progress.states):
        cells = edges[place + 1] - edges[place] - 1
        ready = round(cells * progress.ready(place)) if state is State.RUNNING else 0
        row.append(" " if place else "")
        row.append(signs.cells[State.DONE] * ready, "running")
        row.append(signs.cells[state] * (cells - ready), state.name.lower())
    return row


def _chunks(progress: RunProgress, signs: Glyphs, width: int) -> Text:
    ready = progress.tally(State.DONE) + progress.tally(State.REUSED)
    row = Text(f"{count(ready)} of {plural(len(progress.states), 'chunk')}", "soft")
    gap = f"  {signs.dot}  "
    for state, word in ((State.RUNNING, "running"), (State.REUSED, "reused")):
        if number := progress.tally(state):
            row.append(gap, "waiting").append(f"{count(number)} {word}", word)
    if progress.failures:
        row.append(gap, "waiting")
        row.append(plural(len(progress.failures), "failed attempt"), "failed")
    if (plan := progress.plan) is not None:
        where = f"{clean(plan.engine)}, {plural(plan.workers, 'worker')}, {plan.precision}"
        room = width - row.cell_len - len(where)
        row.append(" " * room + where if room > MARGIN else "", "waiting")
    return row


def _troubles(progress: RunProgress) -> list[str]:
    failed = [f"chunk {failure.chunk}: {clean(failure.error)}" for failure in progress.failures]
    return [*(clean(note) for note in progress.notes), *failed[-1:]]
