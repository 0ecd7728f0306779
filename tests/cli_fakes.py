"""What the command line is tested against: a run that does as it is told, and its records."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from impasto.records import (
    Check,
    Chunk,
    ChunkCounts,
    Color,
    Done,
    Encode,
    Event,
    Ledger,
    Plan,
    Planned,
    Progress,
    Report,
    ScorerSpec,
    Source,
    Spec,
    StageBegan,
    StreamInfo,
)


def a_source(frames: int = 300) -> Source:
    """A sound 25 fps video of `frames` frames."""
    ledger = Ledger(
        Fraction(1, 12800),
        tuple(range(0, 512 * frames, 512)),
        (True,) * frames,
        (0,) * frames,
        512,
    )
    return Source(
        digest="0" * 64,
        bytes=1_000_000,
        container="mov,mp4,m4a,3gp,3g2,mj2",
        video_index=0,
        codec="h264",
        width=640,
        height=360,
        rotation=90,
        mirrored=False,
        sample_aspect_ratio=Fraction(1),
        pixel_format="yuv420p",
        color=Color("bt709", "tv", "bt709", "bt709"),
        streams=(StreamInfo(0, "video", "h264"), StreamInfo(1, "audio", "aac", "deu")),
        chapters=2,
        ledger=ledger,
    )


def chunks(number: int, frames: int = 60) -> tuple[Chunk, ...]:
    """Consecutive chunks of `frames` frames."""
    return tuple(Chunk(i, i * frames, (i + 1) * frames, 0) for i in range(number))


def a_plan(model: str) -> Plan:
    """Of five chunks, made with the network of that digest."""
    source = a_source(300)
    encode = Encode("h264", 18, "fast", 640, 360, "yuv420p", source.sample_aspect_ratio,
                    source.color, source.ledger.average_rate)  # fmt: skip
    spec = Spec("s", ScorerSpec("starry_night", model), encode, 0, 300, 60, "auto")
    return Plan(spec, source, chunks(5), "bf16", None)


def planned(number: int, *, reused: tuple[int, ...] = (), frames: int = 60) -> Planned:
    """The plan of a run of `number` chunks."""
    return Planned(
        "c0ffee", a_source(number * frames), chunks(number, frames), reused, "local", 2, "bf16"
    )


def progress(chunk: int, frames: int, score_s: float = 1.0) -> Progress:
    """A chunk has come this far."""
    return Progress(chunk, "w0", frames, {"decode": 0.1, "score": score_s, "encode": 0.2})


def done(chunk: int, frames: int = 60) -> Done:
    """A chunk is finished."""
    stage_s = {"decode": 0.1, "score": 2.0, "encode": 0.2}
    return Done(chunk, "w0", "ab", frames, 2.0, stage_s, (), "cpu")


def a_report(**changes: Any) -> Report:
    """What a run reports that went well, but for `changes`."""
    facts: dict[str, Any] = {
        "run_id": "c0ffee",
        "source": "in.mp4",
        "target": "in.starry_night.mp4",
        "scorer": "starry_night",
        "frames": 300,
        "wall_s": 73.04,
        "frames_per_s": 20.5,
        "chunks": ChunkCounts(5, 1, 2, 0),
        "replaced_frames": 0,
        "engine": "local",
        "workers": 2,
        "runtime": "openvino",
        "device": "AMD EPYC (AVX512-BF16)",
        "precision": "bf16",
        "stage_s": {"decode": 1.0, "score": 60.0, "encode": 4.0, "verify": 2.0},
        "verified": True,
        "checks": (Check("frame_count", ok=True, expected=300, found=300),),
    }
    return Report(**(facts | changes))


@dataclass
class FakeRun:
    """Stands for impasto.run: remembers the call, tells two events, then reports or raises."""

    outcome: Report | BaseException = field(default_factory=a_report)
    calls: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, source: str, *, on_event: Callable[[Event], None], **given: Any) -> Report:
        self.calls.append({"source": source, **given})
        on_event(StageBegan("probe"))
        on_event(planned(5))
        on_event(StageBegan("score"))
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome
