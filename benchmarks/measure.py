"""The measurements, one function each; every one returns what goes into the results as it is."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import clips
from impasto.config import load_settings
from impasto.errors import RequestError
from impasto.media.probe import probe
from impasto.media.verify import verify
from impasto.preview import read_pictures
from impasto.records import Frames
from impasto.scorers import psnr_db
from impasto.styles import find_style
from processes import Finished, call, spread

HERE = Path(__file__).resolve().parent
SHIPPED = "starry_night"
_NETWORK = "standard transform network, 32-64-128 channels, 5 residual blocks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured."""

    width: int = 640
    height: int = 360
    frames: int = 240
    """Of the clip that we paint."""
    baseline_frames: int = 48
    """Of the clip that the slow method paints; rates per frame are compared."""
    rounds: int = 3
    seconds: float = 10.0
    """Of the network alone."""
    turn_seconds: float = 1.0
    """Of each network of the qualities, `turns` times."""
    turns: int = 7
    longer: int = 10
    """How many times as long the clip for memory is."""
    overhead_s: float = 120.0
    """Of scoring on each engine."""
    overhead_frames: int = 96
    """That are drawn for that."""
    finish_frames: int = 14_400
    """Of the clip whose stitch and verify are timed: ten minutes at 24 frames per second."""


QUICK = Sizes(width=128, height=72, frames=16, baseline_frames=4, rounds=1, seconds=0.2, longer=2,
              turn_seconds=0.05, turns=2, finish_frames=32, overhead_s=0.5,
              overhead_frames=16)  # fmt: skip


class Bench:
    """The folder where measuring happens, and what is in it: clips, one network in two forms."""

    def __init__(self, folder: Path, sizes: Sizes, checkpoint: Path | None) -> None:
        self.folder, self.sizes, self.checkpoint = folder, sizes, checkpoint
        self.weights, self.model = folder / "network.pth", folder / "network.onnx"
        self.clip, self.short = folder / "clip.mp4", folder / "short.mp4"
        clips.draw(self.clip, frames=sizes.frames, width=sizes.width, height=sizes.height)
        clips.draw(self.short, frames=sizes.baseline_frames, width=sizes.width, height=sizes.height)
        self.reference("export", self.weights, self.model, *([checkpoint] if checkpoint else []))

    def reference(self, *words: str | Path) -> Finished:
        """Call the reference's method."""
        return call([sys.executable, str(HERE / "reference_method.py"), *map(str, words)])

    def paint(self, clip: Path, target: Path, *words: str) -> Finished:
        """Paint `clip` by the command line, as a run that nobody has begun before."""
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        how = words if "--model" in words or "--style" in words else ("--model", str(self.model),
                                                                      *words)  # fmt: skip
        verb = "stylize" if "--style" in how else "score"
        command = [sys.executable, "-m", "impasto", verb, str(clip), *how, "-o", str(target)]
        return call([*command, "--force", "--json"], {"IMPASTO_WORK": str(work)})

    def network_alone(self, model: Path, precision: str) -> dict[str, Any]:
        """Frames per second of the scorer in a process of its own."""
        asked, painted = self.folder / "first.npy", self.folder / "first-painted.npy"
        words = [str(model), str(self.clip), str(self.sizes.seconds), precision,
                 str(asked), str(painted)]  # fmt: skip
        found: dict[str, Any] = call([sys.executable, str(HERE / "network_only.py"), *words]).answer
        return found

    def facts(self) -> dict[str, Any]:
        """What is painted, and with what."""
        sizes = self.sizes
        return {
            "clip": f"{sizes.width}x{sizes.height}, 24 frames per second, H.264 and AAC",
            "frames": sizes.frames,
            "baseline_frames": sizes.baseline_frames,
            "rounds": sizes.rounds,
            "network": _NETWORK,
            "weights": self.checkpoint.stem if self.checkpoint else "random, fixed seed",
        }


def end_to_end(bench: Bench) -> dict[str, Any]:
    """Baseline, ours and the network alone, in turn, several times: file to verified file.

    Ours counts everything, from the start of the process on. The baseline's start (imports, loading
    the network) is left out in its favour: it would weigh more on its shorter clip.
    """
    ours, theirs, alone = [], [], []
    painting, baseline = bench.folder / "ours.mp4", bench.folder / "baseline.mp4"
    bench.paint(bench.short, bench.folder / "warm-up.mp4")
    for _ in range(bench.sizes.rounds):
        theirs.append(bench.reference("run", bench.weights, bench.short, baseline))
        ours.append(bench.paint(bench.clip, painting))
        precision = ours[-1].answer["precision"]
        alone.append(bench.network_alone(bench.model, precision)["frames_per_s"])
    slow = [_frames_per_s(each.answer) for each in theirs]
    fast = [each.answer["frames"] / each.wall_s for each in ours]
    return {
        "baseline": {
            "frames_per_s": spread(slow),
            "peak_mb": spread([each.peak_mb for each in theirs]),
            "stage_share": _shares(theirs[-1].answer["stage_s"], None),
        },
        "ours": {
            "frames_per_s": spread(fast),
            "peak_mb": spread([each.peak_mb for each in ours]),
            "stage_share": _shares(ours[-1].answer["stage_s"], ours[-1].wall_s),
            "precision": ours[-1].answer["precision"],
            "gate_db": ours[-1].answer["gate_db"],
            "wall_s": spread([each.wall_s for each in ours]),
        },
        "ratio": spread([f / s for f, s in zip(fast, slow, strict=True)]),
        "network_alone": {
            "frames_per_s": spread(alone),
            "share_reached": spread([f / a for f, a in zip(fast, alone, strict=True)]),
        },
        "checks": _checks(bench, painting, baseline),
    }


def _frames_per_s(answer: dict[str, Any]) -> float:
    return float(answer["frames"] / sum(answer["stage_s"].values()))


def _shares(stage_s: dict[str, float], wall_s: float | None) -> dict[str, float]:
    """Busy seconds of each stage as a share of the whole; ours overlap, so they exceed 1."""
    whole = wall_s or sum(stage_s.values())
    return {name: round(seconds / whole, 4) for name, seconds in stage_s.items()}


def _checks(bench: Bench, painting: Path, baseline: Path) -> dict[str, Any]:
    """Whether what was so fast is right: every frame and timestamp, and the picture itself."""
    proof = verify(bench.clip, painting)
    lossy = {check.name: check.ok for check in verify(bench.short, baseline)}
    return {
        "ours_verified": all(check.ok for check in proof),
        "ours_checks": {check.name: check.ok for check in proof},
        "baseline_checks": lossy,
        "network_psnr_db": _network_psnr(bench),
        "ours_psnr_db": _psnr(bench, bench.clip, painting),
        "baseline_psnr_db": _psnr(bench, bench.short, baseline),
    }


def _psnr(bench: Bench, source: Path, painting: Path) -> float | None:
    """PSNR in dB of a finished file against PyTorch in fp32 on the same source frames.

    The mean over three frames; coding losses are part of it. None where frames are missing.
    """
    count = len(probe(source).ledger)
    places = sorted({count // 6, count // 2, count * 5 // 6})
    if len(probe(painting).ledger) != count:
        return None
    asked, exact = bench.folder / "asked.npy", bench.folder / "exact.npy"
    np.save(asked, _pictures(source, places))
    bench.reference("paint", bench.weights, asked, exact)
    found = _pictures(painting, places)
    wanted = np.load(exact)
    return round(
        sum(psnr_db(w, f) for w, f in zip(wanted, found, strict=True)) / len(places), 2
    )  # fmt: skip


def _network_psnr(bench: Bench) -> float:
    """PSNR in dB of the frame that the network alone painted last, before any coding."""
    asked, exact = bench.folder / "first.npy", bench.folder / "first-exact.npy"
    bench.reference("paint", bench.weights, asked, exact)
    return round(psnr_db(np.load(exact), np.load(bench.folder / "first-painted.npy")), 2)


def _pictures(path: Path, places: list[int]) -> Frames:
    return read_pictures(path, probe(path), places, load_settings(os.environ))


def shipped(bench: Bench) -> dict[str, Any] | None:
    """The style that ships, whose network is made for the machine; None before there is one."""
    try:
        _, bound = find_style(SHIPPED)
    except RequestError:
        return None
    model = bench.folder / "shipped.onnx"
    model.write_bytes(bound)
    target, words = bench.folder / "shipped.mp4", ("--style", SHIPPED)
    bench.paint(bench.short, target, *words)
    ours, alone = [], []
    for _ in range(bench.sizes.rounds):
        ours.append(bench.paint(bench.clip, target, *words))
        alone.append(bench.network_alone(model, ours[-1].answer["precision"])["frames_per_s"])
    fast = [each.answer["frames"] / each.wall_s for each in ours]
    return {
        "style": SHIPPED,
        "frames_per_s": spread(fast),
        "stage_share": _shares(ours[-1].answer["stage_s"], ours[-1].wall_s),
        "precision": ours[-1].answer["precision"],
        "network_alone": {
            "frames_per_s": spread(alone),
            "share_reached": spread([f / a for f, a in zip(fast, alone, strict=True)]),
        },
        "verified": all(each.answer["verified"] for each in ours),
    }


def tiers(bench: Bench) -> list[dict[str, Any]]:
    """The network of every quality alone, in turn with the standard network.

    Turns are short and many, so that other work on the machine meets all of them.
    """
    sizes, frame = bench.sizes, bench.folder / "frame.npy"
    np.save(frame, _pictures(bench.clip, [sizes.frames // 2])[0])
    words = [bench.weights, bench.model, frame, sizes.turn_seconds, sizes.turns]
    command = [sys.executable, str(HERE / "tiers.py"), *map(str, words)]
    found: list[dict[str, Any]] = call(command).answer
    return found


def memory(bench: Bench) -> dict[str, Any]:
    """Peak memory for the clip, and for one many times as long."""
    longer = bench.folder / "longer.mp4"
    clips.repeat(bench.clip, longer, bench.sizes.longer)
    short, long = (bench.paint(clip, bench.folder / "memory.mp4") for clip in (bench.clip, longer))
    return {
        "frames": [short.answer["frames"], long.answer["frames"]],
        "peak_mb": [short.peak_mb, long.peak_mb],
        "ratio": round(long.peak_mb / short.peak_mb, 3),
        "verified": short.answer["verified"] and long.answer["verified"],
    }


def start_up(bench: Bench) -> dict[str, Any]:
    """Seconds from starting the process to the first frame in the store, with a one-frame clip.

    They count the end of the process, but not the stitch and the proof.
    """
    one = bench.folder / "one.mp4"
    clips.draw(one, frames=1, width=bench.sizes.width, height=bench.sizes.height)

    def seconds() -> float:
        done = bench.paint(one, bench.folder / "first.mp4")
        stages = done.answer["stage_s"]
        return done.wall_s - float(stages["stitch"]) - float(stages["verify"])

    return {"first_frame_s": spread([seconds() for _ in range(bench.sizes.rounds)])}


def finish(bench: Bench, scored_frames_per_s: float) -> dict[str, Any]:
    """What stitching and proving a long clip take, beside the scoring of it at a given rate.

    Its segments come from a network that does nothing, because only their joining is measured.
    """
    sizes = bench.sizes
    base, long = bench.folder / "base.mp4", bench.folder / "long.mp4"
    frames = min(240, sizes.finish_frames // 2)
    clips.draw(base, frames=frames, width=sizes.width, height=sizes.height)
    clips.repeat(base, long, sizes.finish_frames // frames)
    model = bench.folder / "identity.onnx"
    model.write_bytes(_identity())
    done = bench.paint(long, bench.folder / "finished.mp4", "--model", str(model))
    stages, count = done.answer["stage_s"], done.answer["frames"]
    scoring_s = count / scored_frames_per_s
    ends_s = float(stages["stitch"]) + float(stages["verify"])
    return {
        "frames": count,
        "length_s": round(count / 24, 1),
        "probe_s": stages["probe"],
        "stitch_s": stages["stitch"],
        "verify_s": stages["verify"],
        "whole_run_frames_per_s": done.answer["frames_per_s"],
        "scoring_s": round(scoring_s, 1),
        "share": round(ends_s / scoring_s, 4),
        "verified": done.answer["verified"],
    }


def _identity() -> bytes:
    from onnx import TensorProto, helper

    shape: list[str | int | None] = ["n", 3, "h", "w"]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("frames", "out")]
    node = helper.make_node("Identity", ["frames"], ["out"])
    graph = helper.make_graph([node], "identity", values[:1], values[1:])
    opset = [helper.make_opsetid("", 17)]
    data: bytes = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    return data


def workers(bench: Bench) -> list[dict[str, Any]]:
    """Frames per second of the same run with the machine's cores divided in other ways."""
    ways = [("inline", 1), ("local", 1), ("local", 2)]
    rates: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    verified = dict.fromkeys(ways, True)
    for _ in range(bench.sizes.rounds):
        for engine, count in ways:
            how = ["--engine", engine, "--workers", str(count), "--chunk-frames",
                   str(max(1, bench.sizes.frames // 4))]  # fmt: skip
            done = bench.paint(bench.clip, bench.folder / "workers.mp4", *how)
            rates[engine, count].append(done.answer["frames"] / done.wall_s)
            verified[engine, count] &= bool(done.answer["verified"])
    return [
        {"engine": engine, "workers": count, "frames_per_s": spread(rates[engine, count]),
         "verified": verified[engine, count]}
        for engine, count in ways
    ]  # fmt: skip
