"""The vocabulary: frozen values that travel between the parts."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from impasto.access import Access
from impasto.errors import Way
from impasto.fleet import Cost, Tail
from impasto.settings import Limits

Frames = NDArray[np.uint8]
"""RGB pictures, uint8, (N, H, W, 3), C-contiguous."""

Precision = Literal["f32", "bf16", "f16"]
PixelScale = Literal["0..255", "0..1", "-1..1"]
Codec = Literal["h264", "h265", "av1", "vp9", "ffv1"]


@dataclass(frozen=True, slots=True)
class Color:
    """How a stream's numbers become light, in FFmpeg's names; "unspecified" where untagged."""

    matrix: str = "unspecified"
    range: str = "unspecified"
    primaries: str = "unspecified"
    transfer: str = "unspecified"

    @property
    def hdr(self) -> bool:
        """Whether the transfer is PQ (SMPTE ST 2084) or HLG (ARIB STD-B67)."""
        return self.transfer in {"smpte2084", "arib-std-b67"}


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream of a container."""

    index: int
    kind: str  # video, audio, subtitle, data or attachment
    codec: str
    language: str = ""
    """ISO 639 code; empty where it is not said, which some containers write as "und"."""
    attached_picture: bool = False
    """Cover art: a still that sits in a video stream."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """Every frame of the source in display order, as a full decode found it.

    The three tuples have one entry a frame. A checksum is the CRC-32 of the decoded luma plane:
    it proves later, after a seek, that a worker holds the very picture that the probe saw.
    """

    time_base: Fraction
    pts: tuple[int, ...]
    """Strictly increasing, in units of time_base."""
    keyframe: tuple[bool, ...]
    checksum: tuple[int, ...]
    last_duration: int
    """Of the last frame, in units of time_base; the others last until the next PTS."""

    def __len__(self) -> int:
        return len(self.pts)

    def duration(self, index: int) -> int:
        """How long frame `index` is shown, in units of time_base."""
        if index + 1 < len(self.pts):
            return self.pts[index + 1] - self.pts[index]
        return self.last_duration

    @property
    def variable_frame_rate(self) -> bool:
        """Whether frame durations differ by more than one tick, which is rounding."""
        steps = [b - a for a, b in zip(self.pts, self.pts[1:], strict=False)]
        return bool(steps) and max(steps) - min(steps) > 1

    @property
    def average_rate(self) -> Fraction:
        """Frames per second over the whole ledger, exact."""
        ticks = self.pts[-1] + self.last_duration - self.pts[0]
        return Fraction(len(self.pts)) / (ticks * self.time_base)


@dataclass(frozen=True, slots=True)
class Source:
    """What the probe learnt of a source: its picture track, its other streams, its ledger."""

    digest: str
    """SHA-256 of the file's bytes."""
    bytes: int
    container: str
    """FFmpeg's name of the demuxer, such as "mov,mp4,m4a,3gp,3g2,mj2"."""
    video_index: int
    codec: str
    width: int
    """Of the decoded picture, before rotation."""
    height: int
    rotation: int
    """Degrees clockwise that a player turns the picture: 0, 90, 180 or 270."""
    mirrored: bool
    """Whether a player flips the picture left to right, before it turns it."""
    sample_aspect_ratio: Fraction
    pixel_format: str
    color: Color
    streams: tuple[StreamInfo, ...]
    chapters: int
    ledger: Ledger
    damage: tuple[str, ...] = ()
    """What the decoder complained of: one line each; empty for a sound file."""

    @property
    def display_width(self) -> int:
        """Width in pixels after rotation."""
        return self.height if self.rotation in {90, 270} else self.width

    @property
    def display_height(self) -> int:
        """Height in pixels after rotation."""
        return self.width if self.rotation in {90, 270} else self.height

    @property
    def display_aspect(self) -> Fraction:
        """Sample aspect ratio after rotation."""
        sar = self.sample_aspect_ratio
        return 1 / sar if self.rotation in {90, 270} else sar


@dataclass(frozen=True, slots=True)
class Encode:
    """How segments are encoded; every field is part of a segment's key."""

    codec: Codec
    crf: int
    preset: str
    width: int
    height: int
    pixel_format: str
    sample_aspect_ratio: Fraction
    color: Color
    rate: Fraction
    """Frames per second that the encoder's rate control assumes; not the frames' timing."""
    threads: int = 1
    """Encoders give other bytes on other thread counts, so it is fixed and part of the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimise:
    """How frames are painted by optimisation, without a network of the style's own.

    The weights belong to losses that are ratios: 1 is as far from the painting, or from the scene,
    as a blank picture.
    """

    steps: int = 40
    """Iterations of L-BFGS per frame, and as many at each coarser scale of a first frame."""
    style_weight: float = 1.0
    content_weight: float = 0.05
    temporal_weight: float = 20.0
    """Of the mean squared distance, 0..1, from the frame before as optical flow moves it."""
    painting_size: int | None = None
    """Longer side in pixels that the painting, and its strokes, get; None takes the frame's."""


@dataclass(frozen=True, slots=True)
class ScorerSpec:
    """Which network, and how it is applied; every field is part of the run's id."""

    name: str
    """The style's or the model file's name: for people, and for the target's name."""
    model: str
    """SHA-256 of the ONNX file, or of the archive that an optimisation works from (a painting and a
    perceptual network); its bytes lie in the system store under models/."""
    strength: float = 1.0
    """0 is the source, 1 is the full style."""
    keep_colors: bool = False
    pixels: PixelScale = "0..255"
    """The numbers that the network takes and gives for black and white."""
    optimise: Optimise | None = None
    """None applies a network."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of consecutive frames that one worker scores at a time."""

    index: int
    start: int
    stop: int  # [start, stop)
    seek_pts: int
    """PTS of a keyframe at or before `start`, where decoding begins."""

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Spec:
    """Everything that a run's result depends on; its digest is the run's id."""

    source: str
    """Digest of the source's bytes."""
    scorer: ScorerSpec
    encode: Encode
    start: int  # [start, stop) in frames of the ledger
    stop: int
    chunk_frames: int
    precision: Literal["auto", "f32", "bf16", "f16"]
    on_error: Literal["fail", "pass-through"] = "fail"
    software: str = ""
    """Versions and processor extension: another encoder's segments must not be joined to these."""
    tail: Tail | None = None
    """None cuts evenly. Where it is computed for a fleet, `chunk_frames` is 0 until then."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the first start of a run settled; every resume reads it back."""

    spec: Spec
    source: Source
    chunks: tuple[Chunk, ...]
    precision: Precision
    gate_db: float | None
    """PSNR in dB of the first frame at `precision` against f32; None where it is f32 itself."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker needs, as data: it opens source, scorer and `system`, the store, itself."""

    run_id: str
    source: str  # path or URL
    system: str
    etag: str = ""
    """Of a source in a store: what is read of it must be of this content."""
    device: str = "cpu"
    streams: int = 0
    """Frames scored at the same time, one core each; 0 takes every core."""
    limits: Limits = Limits()  # noqa: RUF009 - frozen
    scheduled_events: str = "off"
    access: tuple[Access, ...] = field(default=(), compare=False)
    """What opens source and system store, anew with every chunk; it goes from memory to memory, and
    is kept nowhere."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A worker has finished more frames of a chunk."""

    chunk: int
    worker: str
    frames_done: int
    stage_s: dict[str, float]
    """Busy seconds of this chunk's stages so far: decode, score, encode."""
    of_next: float = 0.0
    """Share of the next frame that is done, 0..1, where a frame takes long."""


@dataclass(frozen=True, slots=True)
class Done:
    """A chunk has a finished segment in the store."""

    chunk: int
    worker: str
    segment: str
    """SHA-256 of the segment's bytes."""
    frames: int
    wall_s: float
    stage_s: dict[str, float]
    frame_s: tuple[float, ...]
    """Seconds of scoring for each frame."""
    device: str
    replaced: tuple[int, ...] = ()
    """Frames (ledger indices) that the policy replaced by their source picture."""
    notes: tuple[str, ...] = ()
    peak_memory_mb: float | None = None
    """Largest resident size of the worker's process until then."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A chunk could not be scored this time; `error` is one line."""

    chunk: int
    worker: str
    error: str
    lost_worker: bool = False
    """The worker's process went away: the chunk itself may be blameless."""
    retriable: bool = True
    log: str = ""
    """Everything known: a traceback, standard error."""


Outcome = Done | Failed


@dataclass(frozen=True, slots=True)
class StageBegan:
    """A run has entered a stage: join (of frames), probe, plan, score, stitch or verify."""

    name: str


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan is settled; `reused` chunks have their segment already."""

    run_id: str
    source: Source | None
    """None where the run is a service's, elsewhere."""
    chunks: tuple[Chunk, ...]
    reused: tuple[int, ...]
    engine: str
    workers: int
    precision: Precision
    target: str = ""
    """Path or URL; empty where the run is a service's, elsewhere."""


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that a person should know now; it stands in the report too."""

    text: str
    ways: tuple[Way, ...] = ()
    """What can be done about it."""


Event = StageBegan | Planned | Progress | Done | Failed | Noted


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that verify proves, with what was expected and what was found."""

    name: str
    ok: bool
    expected: Any
    found: Any
    note: str = ""


@dataclass(frozen=True, slots=True)
class ChunkCounts:
    """How a run's chunks fared."""

    total: int = 0
    reused: int = 0
    retried: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did: printed by --json, and kept in the system store."""

    run_id: str
    source: str
    target: str
    scorer: str
    frames: int
    wall_s: float
    frames_per_s: float
    chunks: ChunkCounts
    replaced_frames: int
    engine: str
    workers: int
    runtime: str
    device: str
    precision: str
    stage_s: dict[str, float]
    """Busy seconds by stage over all workers: probe, decode, score, encode, stitch, verify."""
    verified: bool
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    """Everything that a person should know: HDR tone-mapped, odd size in 4:4:4, damage, …"""
    gate_db: float | None = None
    peak_memory_mb: float | None = None
    """Largest resident sizes of the driver and its workers, added up."""
    frame_s: dict[str, float] = field(default_factory=dict)
    """Seconds of scoring per frame: minimum, median and maximum."""
    restarts: int = 0
    cost: Cost | None = None
