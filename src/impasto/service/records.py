"""The vocabulary of the service: frozen values."""

from dataclasses import dataclass, field
from typing import Any, Literal

RunState = Literal["queued", "running", "succeeded", "failed", "cancelled", "set_aside"]
"""`failed`: the request was wrong; `set_aside`: it failed or crashed at every attempt."""

Origin = Literal["api", "watch", "event", "trigger_file", "schedule"]

OPEN: tuple[RunState, ...] = ("queued", "running")
"""States in which something is still to come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What somebody, or something, asks the service for; paths lie within the media store."""

    source: str
    style: str | dict[str, float] | None = None
    """A name, names with their weights, or the path of a picture of a painting within the media
    store; exactly one of `style` and `model`."""
    model: str | None = None
    """Path of an ONNX file within the media store."""
    target: str | None = None
    """None: `<stem>.<style>.<ext>` beside the source."""
    options: dict[str, Any] = field(default_factory=dict)
    """Fields of `impasto.request.Options`, those that `submissions.OPTIONS` lets users choose."""
    user: str
    origin: Origin = "api"
    priority: int = 0
    """−100…100. Orders one user's runs, the higher first; it never passes another user's turn."""
    idempotency_key: str | None = None
    """The same user's same key again returns the same run, and with another request is refused."""
    content: str | None = None
    """Which version of which object this answers, and by which rule, such as
    "rule/in/a.mp4@etag": one run each, whoever sees it first."""
    source_bytes: int | None = None
    """Size of the source where it is known, for the limit on it."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is."""

    frames_done: int = 0
    frames_total: int = 0
    """0 until the plan is made."""
    stage: str = ""
    """probe, plan, score, stitch or verify; empty before the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRun:
    """One run as the service knows it."""

    run_id: str
    """The service's own; sorts by time."""
    state: RunState
    user: str
    source: str
    style: str | dict[str, float] | None
    model: str | None
    target: str | None
    """As asked for; when succeeded, where it is."""
    options: dict[str, Any]
    priority: int
    origin: Origin
    created_at: float  # seconds since the epoch, as are the next two
    started_at: float | None = None
    finished_at: float | None = None
    progress: RunProgress = RunProgress()
    attempts: int = 0
    """Starts that ended in a failure or a crash of the run's process, since the last `retry`."""
    error: str | None = None
    """One line: why it is failed or set aside, or why its last attempt ended."""
    report: dict[str, Any] | None = None
    """Of the run, as `impasto stylize --json` prints it; when succeeded."""
    plan_id: str | None = None
    """Id under which the system store keeps its plan, segments and logs: runs/<plan_id>/."""
    cancelling: bool = False
    """Somebody cancelled it, and its process has not ended yet."""


@dataclass(frozen=True, slots=True)
class RunEvent:
    """Something that happened to a run."""

    id: int
    """Rises from event to event; where a follower goes on."""
    at: float
    kind: str
    """state, stage, plan, chunk, note, attempt or progress; see `data` in docs/api.md."""
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """Some runs, the latest first, without their reports."""

    runs: tuple[ServiceRun, ...]
    next: str | None
    """Cursor for `after`; None on the last page."""
