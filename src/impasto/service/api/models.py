"""The bodies of requests and responses, as OpenAPI documents them."""

import re
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from impasto.errors import RequestError
from impasto.observe.logs import Line
from impasto.service.api.forms import LABEL, NUMBER, PRESET, RATE, SIZE, STYLE_NAME, TIME, USER
from impasto.service.audit import Recorded
from impasto.service.records import Origin, RunState, ServiceRun
from impasto.service.roles import Role
from impasto.service.submissions import check_path
from impasto.service.tokens import LASTS_S, MAX_LASTS_S, Token
from impasto.train.paintings import is_painting

_PART = r"[^/\\.\x00-\x1f\x7f-\x9f\u2028\u2029][^/\\\x00-\x1f\x7f-\x9f\u2028\u2029]*"


def _media_path(path: str) -> str:
    """The pattern below, with words for what is wrong."""
    try:
        check_path(path, name="the path")
    except RequestError as error:
        raise ValueError(str(error)) from None
    if any(part.startswith(".") for part in path.split("/")):
        raise ValueError(f"the path {path!r} has a part that begins with a dot")
    return path


MediaPath = Annotated[
    str,
    AfterValidator(_media_path),
    Field(
        description="A path within the media store; no part of it begins with a dot.",
        examples=["in/a.mp4"],
        json_schema_extra={"minLength": 1, "maxLength": 1024, "pattern": f"^{_PART}(/{_PART})*$"},
    ),
]
Number = Annotated[str, Field(pattern=NUMBER)]
"""Of a row, as text: nobody is to count with it."""
Absent = SkipJsonSchema[None]
"""A parameter that may be left out; there is no text that stands for null in a URL or a header."""
StyleName = Annotated[str, Field(pattern=STYLE_NAME, examples=["starry_night"])]


def _style(style: str) -> str:
    """The pattern below, with words for what is wrong."""
    if is_painting(style):
        return _media_path(style)
    if not _NAME.fullmatch(style):
        raise ValueError(
            f"a style is a name (a–z, 0–9, _ and -) or a picture in the media store, got {style!r}"
        )
    return style


_NAME = re.compile("[a-z0-9_-]{1,64}")
Style = Annotated[
    str,
    AfterValidator(_style),
    Field(
        examples=["starry_night", "uploads/alice/15352fde0603f7c9/painting.jpg"],
        json_schema_extra={
            "maxLength": 1024,
            "pattern": f"^({_NAME.pattern}|({_PART}/)*{_PART}\\.(jpe?g|png|webp|bmp|tiff?))$",
        },
    ),
]
Weight = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Blend = Annotated[dict[StyleName, Weight], Field(min_length=1, max_length=16)]
Time = Annotated[str, Field(max_length=40, pattern=TIME, examples=["12.5", "00:01:02.5"])]
Rate = Annotated[str, Field(pattern=RATE, examples=["24", "30000/1001"])]
Seconds = Annotated[float, Field(description="Since the epoch, in seconds.")]


class Strict(BaseModel):
    """A body of a request: what it does not know it refuses."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RunOptions(Strict):
    """How to paint; each is the option of the command line of the same name."""

    strength: float = Field(
        default=1.0, ge=0, le=1, allow_inf_nan=False, description="0 is the source."
    )
    keep_colors: bool = False
    size: str = Field(default="source", pattern=SIZE, examples=["720p", "1280x720"])
    rate: Rate | None = Field(
        default=None, description="Frames per second of a folder of frames; 25 without it."
    )
    start: Time | None = None
    end: Time | None = None
    quality: Literal["fast", "balanced", "best"] = "balanced"
    pixels: Literal["0..255", "0..1", "-1..1"] = Field(
        default="0..255", description="The numbers that a model of your own takes and gives."
    )
    codec: Literal["h264", "h265", "av1", "vp9", "ffv1"] | None = None
    crf: int | None = Field(default=None, ge=0, le=63)
    preset: str | None = Field(default=None, pattern=PRESET)
    precision: Literal["auto", "f32", "bf16", "f16"] = "auto"
    chunk_frames: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["auto"] | None = None
    on_error: Literal["fail", "pass-through"] = "fail"
    force: bool = Field(default=False, description="Replace a target that is there.")


class RunRequest(Strict):
    """A run that is asked for; it names either a style or a model."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "source": "in/a.mp4",
                    "style": "starry_night",
                    "target": "out/a.mp4",
                    "options": {"strength": 0.8, "size": "720p"},
                }
            ],
            "oneOf": [
                {"required": ["style"], "properties": {"style": {"not": {"type": "null"}}}},
                {"required": ["model"], "properties": {"model": {"not": {"type": "null"}}}},
            ],
        }
    )

    source: MediaPath
    style: Style | Blend | None = Field(
        default=None,
        description="A name, names with their weights, or the path of a picture of a painting in "
        "the media store, which the first run in it learns.",
    )
    model: MediaPath | None = Field(
        default=None, description="An ONNX file, frames in and frames out."
    )
    target: MediaPath | None = Field(
        default=None, description="Without it `<stem>.<style>.<ext>` beside the source."
    )
    options: RunOptions = RunOptions()
    priority: int = Field(
        default=0, ge=-100, le=100, description="Orders your own runs, high ones first."
    )


class Accepted(BaseModel):
    """A run stands in the queue, durably."""

    run_id: str = Field(examples=["0199a2b3c4d5e6f7"])
    state: RunState


class Progress(BaseModel):
    """How far a run is."""

    frames_done: int
    frames_total: int = Field(description="0 until the plan is made.")
    stage: str = Field(description="join, probe, plan, score, stitch or verify; empty at first.")


class RunBrief(BaseModel):
    """A run in a list."""

    run_id: str
    state: RunState
    user: str
    source: str
    style: str | dict[str, float] | None
    model: str | None
    target: str | None = Field(description="As asked for; when succeeded, where it is.")
    options: dict[str, Any]
    priority: int
    origin: Origin
    created_at: Seconds
    started_at: Seconds | None
    finished_at: Seconds | None
    progress: Progress
    attempts: int
    error: str | None = Field(description="One line, where something went wrong.")
    cancelling: bool = Field(
        description="Whether somebody has cancelled it and it has not stopped yet."
    )

    @classmethod
    def of(cls, run: ServiceRun) -> "RunBrief":
        """What `run` looks like from outside."""
        return cls.model_validate(run, from_attributes=True)


class Run(RunBrief):
    """A run with its report."""

    report: dict[str, Any] | None = Field(
        description="As `impasto stylize --json` prints it; when succeeded."
    )

    @classmethod
    def of(cls, run: ServiceRun) -> "Run":
        """What `run` looks like from outside."""
        return cls.model_validate(run, from_attributes=True)


class RunPage(BaseModel):
    """Some runs, the latest first."""

    runs: list[RunBrief]
    next: str | None = Field(description="Give it as `after` for the next page; null on the last.")


class LogTiming(BaseModel):
    """What a chunk, or the run, took."""

    frames: int
    wall_s: float
    stage_s: dict[str, float] = Field(description="Busy seconds of each stage.")
    frame_s: list[float] = Field(description="Seconds of scoring for each frame.")


class LogLine(BaseModel):
    """A line of a run's log."""

    time: str = Field(description="ISO 8601 in UTC.")
    text: str
    level: Literal["info", "warning", "error"] = "info"
    stage: str = Field(description="Of the run; `end` for the last line of an attempt.")
    worker: str = Field(default="", description="Empty for the run's driver.")
    chunk: int | None = None
    attempt: int | None = Field(default=None, description="At the chunk, from 1 up.")
    printed: bool = Field(description="Whether it comes from standard output or standard error.")
    timing: LogTiming | None = None

    @classmethod
    def of(cls, line: Line) -> "LogLine":
        """What `line` looks like from outside."""
        return cls.model_validate(line, from_attributes=True)


class LogPage(BaseModel):
    """Some lines of a run's log, in order."""

    lines: list[LogLine]
    next: str | None = Field(
        description="Give it as `after` for what follows; null when the run has ended, and this is "
        "all."
    )


class ChunkTiming(BaseModel):
    """What scoring a chunk took."""

    chunk: int
    start: int = Field(description="Its first frame; frames count from 0.")
    worker: str
    wall_s: float
    stage_s: dict[str, float]
    frame_s: list[float] = Field(description="Seconds of scoring for each frame, in order.")


class Timings(BaseModel):
    """What scoring took, frame by frame, of the chunks that are finished."""

    chunks: list[ChunkTiming]


class StyleBrief(BaseModel):
    """A style."""

    name: str
    shipped: bool
    bytes: int
    qualities: list[str]


class StyleCard(StyleBrief):
    """A style with where it comes from."""

    title: str
    artist: str
    year: str
    source: str
    licence: str


class StyleList(BaseModel):
    """The styles there are."""

    styles: list[StyleBrief]


class Upload(BaseModel):
    """A file in the media store that was uploaded here."""

    path: str = Field(description="Give it as a run's `source`.")
    bytes: int
    type: str = Field(description="What it is, by its content.", examples=["video/mp4"])
    sha256: str


class StoredFile(BaseModel):
    """A file under a user's own prefix of the media store."""

    path: str
    bytes: int
    modified_at: Seconds


class StoredList(BaseModel):
    """A user's own files, by path."""

    files: list[StoredFile]


class NodeStatus(BaseModel):
    """A machine or process that the engine holds now."""

    name: str
    engine: str
    workers: int
    busy: int


class NodeList(BaseModel):
    """What the engine holds now; nothing while there is nothing to do."""

    nodes: list[NodeStatus]


class Status(BaseModel):
    """Whether the service lives, or can work."""

    status: Literal["ok"] = "ok"


class TokenRequest(Strict):
    """A token that is asked for."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"user": "alice", "role": "submitter", "label": "laptop"}]}
    )

    user: str = Field(pattern=USER)
    role: Role
    label: str = Field(default="", max_length=200, pattern=LABEL)
    lasts_s: float = Field(
        default=LASTS_S,
        gt=0,
        le=MAX_LASTS_S,
        allow_inf_nan=False,
        description="Seconds until it expires.",
    )


class TokenInfo(BaseModel):
    """What is known of a token, but for its secret."""

    id: str = Field(description="Its recognisable part: `impasto_<id>_…`.")
    user: str
    role: Role
    label: str
    created_at: Seconds
    created_by: str
    expires_at: Seconds
    revoked_at: Seconds | None
    last_used_at: Seconds | None = Field(description="To the minute.")

    @classmethod
    def of(cls, token: Token) -> "TokenInfo":
        """What `token` looks like from outside."""
        return cls.model_validate(token, from_attributes=True)


class NewToken(TokenInfo):
    """A token, and the only sight of its secret."""

    token: str = Field(description="Give it as `Authorization: Bearer TOKEN`. Never shown again.")


class TokenPage(BaseModel):
    """Some tokens, by id."""

    tokens: list[TokenInfo]
    next: str | None


class AuditEntry(BaseModel):
    """Something that somebody did, or was refused."""

    id: int
    at: Seconds
    user: str = Field(description="Empty for whom nobody knows.")
    role: str
    token: str = Field(description="Id of the API token.")
    address: str
    action: str
    subject: str
    status: int

    @classmethod
    def of(cls, recorded: Recorded) -> "AuditEntry":
        """What `recorded` looks like from outside."""
        return cls.model_validate({"id": recorded.id, "at": recorded.at, **asdict(recorded.entry)})


class AuditPage(BaseModel):
    """Some entries, the latest first."""

    entries: list[AuditEntry]
    next: int | None
