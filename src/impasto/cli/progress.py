"""What a run looks like from outside: events go in, numbers for a display come out. No drawing."""

from collections import deque
from enum import IntEnum
from itertools import pairwise

from impasto.cli.text import WAYS
from impasto.errors import worded
from impasto.records import Chunk, Done, Event, Failed, Noted, Planned, Progress, StageBegan

STAGES = ("probe", "plan", "score", "stitch", "verify")

WINDOW_S = 15.0
"""Frames per second are those of this recent span, so that the time left follows the present."""


class State(IntEnum):
    """Of a chunk; where one column stands for several, the highest is shown."""

    REUSED = 0
    DONE = 1
    WAITING = 2
    RUNNING = 3
    FAILED = 4


class RunProgress:
    """The state of one run, as far as its events tell; `now_s` is any clock that never goes back.

    A frame counts as done when its chunk says so; a failed chunk gives its frames back.
    """

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        """Stage → when it began."""
        self.ended_s: float | None = None
        self.plan: Planned | None = None
        self.states: list[State] = []
        self.notes: list[str] = []
        self.failures: list[Failed] = []
        self._chunks: dict[int, Chunk] = {}
        self._place: dict[int, int] = {}
        self._frames: dict[int, float] = {}
        self._stage_s: dict[int, dict[str, float]] = {}
        self._scored = 0.0
        self._recent: deque[tuple[float, float]] = deque()

    def apply(self, event: Event, *, now_s: float) -> None:
        """Take in what has happened at `now_s`."""
        match event:
            case StageBegan(name):
                self.stages[name] = now_s
            case Planned():
                self._planned(event, now_s)
            case Progress():
                self._advance(event.chunk, event.frames_done + event.of_next, now_s)
                self._set(event.chunk, State.RUNNING)
                self._stage_s[event.chunk] = event.stage_s
            case Done():
                self._advance(event.chunk, event.frames, now_s)
                self._set(event.chunk, State.DONE)
                self._stage_s[event.chunk] = event.stage_s
            case Failed():
                self.failures.append(event)
                self._frames[event.chunk] = 0
                self._set(event.chunk, State.FAILED)
            case Noted(text, ways):
                self.notes.append(worded(text, ways, WAYS))

    @property
    def stage(self) -> str | None:
        """The stage that runs now."""
        return next(reversed(self.stages), None)

    def stage_span_s(self, name: str, now_s: float) -> float:
        """How long a stage that has begun has lasted."""
        began = self.stages[name]
        later = [start for start in self.stages.values() if start > began]
        return min(later, default=now_s if self.ended_s is None else self.ended_s) - began

    @property
    def frames_total(self) -> int:
        """Frames of the whole run."""
        return sum(len(chunk) for chunk in self._chunks.values())

    @property
    def frames_done(self) -> int:
        """Frames scored or reused, whole ones."""
        return int(self.work_done)

    @property
    def work_done(self) -> float:
        """The same with parts of frames, where those are told."""
        return sum(self._frames.values())

    def rate(self, now_s: float) -> float | None:
        """Frames scored per second over the recent span; None before the first."""
        while len(self._recent) > 2 and self._recent[1][0] < now_s - WINDOW_S:
            self._recent.popleft()
        if not self._recent or self._scored == self._recent[0][1]:
            return None
        began_s, scored = self._recent[0]
        return (self._scored - scored) / (now_s - began_s) if now_s > began_s else None

    def left_s(self, now_s: float) -> float | None:
        """Seconds of scoring left at the present rate."""
        rate = self.rate(now_s)
        return (self.frames_total - self.work_done) / rate if rate else None

    def binding(self) -> tuple[str, float] | None:
        """The stage with the largest share of busy seconds, and that share."""
        sums: dict[str, float] = {}
        for stage_s in self._stage_s.values():
            for name, seconds in stage_s.items():
                sums[name] = sums.get(name, 0.0) + seconds
        total = sum(sums.values())
        if total <= 0:
            return None
        name = max(sums, key=sums.__getitem__)
        return name, sums[name] / total

    def tally(self, state: State) -> int:
        """How many chunks are in a state."""
        return self.states.count(state)

    def ready(self, place: int) -> float:
        """The share of the frames done in the chunk that stands at `place`, 0…1."""
        chunk = list(self._chunks.values())[place]
        return self._frames[chunk.index] / max(1, len(chunk))

    def strip(self, columns: int) -> list[State]:
        """The chunks' states in at most `columns` cells, in the order of the video."""
        if len(self.states) <= columns:
            return list(self.states)
        bounds = [i * len(self.states) // columns for i in range(columns + 1)]
        return [_one(self.states[a:b]) for a, b in pairwise(bounds)]

    def _planned(self, event: Planned, now_s: float) -> None:
        self.plan = event
        self._chunks = {chunk.index: chunk for chunk in event.chunks}
        self._place = {chunk.index: place for place, chunk in enumerate(event.chunks)}
        self.states = [State.WAITING] * len(event.chunks)
        self._frames = dict.fromkeys(self._chunks, 0)
        for index in event.reused:
            self._frames[index] = len(self._chunks[index])
            self._set(index, State.REUSED)
        self._recent.append((now_s, 0))

    def _advance(self, chunk: int, frames_done: float, now_s: float) -> None:
        gained = frames_done - self._frames.get(chunk, 0)
        self._frames[chunk] = frames_done
        # An attempt that begins again says less than before: that work is not new.
        self._scored += max(0, gained)
        self._recent.append((now_s, self._scored))

    def _set(self, chunk: int, state: State) -> None:
        if chunk in self._place:
            self.states[self._place[chunk]] = state


def _one(states: list[State]) -> State:
    """One cell for several chunks: trouble first, then movement, and done only where all are."""
    worst = max(states)
    if worst is State.WAITING and min(states) < State.WAITING:
        return State.RUNNING
    return worst
