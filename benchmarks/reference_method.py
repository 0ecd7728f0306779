"""The method to beat, done well: frames as JPEG files, PyTorch eager in fp32, frame by frame.

FFmpeg turns the video into numbered JPEG files at its default quality and takes the sound out; the
network, loaded once, reads each file and writes another; FFmpeg joins them at the source's rate and
puts the sound back. Where the published implementations are slower than need be (a model loaded for
every frame, a rate that is fixed) this one is not.

    python benchmarks/reference_method.py export WEIGHTS.pth MODEL.onnx [CHECKPOINT.pth]
    python benchmarks/reference_method.py run WEIGHTS.pth CLIP TARGET
    python benchmarks/reference_method.py paint WEIGHTS.pth FRAMES.npy PAINTED.npy
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio_ffmpeg  # type: ignore[import-untyped]
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from impasto.nets.export import export_onnx
from impasto.nets.transformer import TransformerNet

_SEED = 20


def export(weights: Path, model: Path, checkpoint: Path | None) -> None:
    """Write one network twice: as PyTorch's weights, and as the ONNX file that Impasto runs.

    Without a checkpoint the weights are random, from a fixed seed: speed does not depend on them.
    """
    torch.manual_seed(_SEED)
    net = TransformerNet()
    if checkpoint is not None:
        loaded = torch.load(checkpoint, map_location="cpu", weights_only=True)
        known = net.state_dict()
        net.load_state_dict({name: value for name, value in loaded.items() if name in known})
    else:
        _tame(net)
    torch.save(net.state_dict(), weights)
    export_onnx(net, model)


def _tame(net: nn.Module) -> None:
    """Bring a random network's output into the range of a picture, where rounding matters."""
    last = net.get_submodule("deconv3.conv2d")
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    with torch.no_grad():
        last.weight *= 128
        last.bias.fill_(128.0)


def load(weights: Path) -> nn.Module:
    """The network of `export`, ready to paint."""
    net = TransformerNet()
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return net.eval()


def apply(net: nn.Module, picture: np.ndarray) -> np.ndarray:
    """Paint one picture, uint8 (H, W, 3) RGB → the same."""
    with torch.no_grad():
        frame = torch.from_numpy(picture).permute(2, 0, 1)[None].float()  # (1, 3, H, W)
        painted: Tensor = net(frame)
        painted = painted.clamp(0, 255).round()[0]
    result: np.ndarray = painted.permute(1, 2, 0).to(torch.uint8).numpy()
    return result


def run(net: nn.Module, clip: Path, target: Path) -> dict[str, Any]:
    """Paint `clip` and return how many frames, and the seconds of each stage."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    rate = _rate(clip)

    def call(*arguments: str) -> None:
        subprocess.run([ffmpeg, "-v", "error", "-y", *arguments], check=True)

    with tempfile.TemporaryDirectory() as folder:
        frames, painted = Path(folder) / "frames", Path(folder) / "painted"
        frames.mkdir()
        painted.mkdir()
        sound = str(Path(folder) / "sound.m4a")

        def extract() -> None:
            call("-i", str(clip), str(frames / "%06d.jpg"))
            call("-i", str(clip), "-vn", "-c", "copy", sound)

        def score() -> None:
            for path in sorted(frames.iterdir()):
                with Image.open(path) as picture:
                    result = apply(net, np.array(picture.convert("RGB")))
                Image.fromarray(result).save(painted / path.name)

        def restitch() -> None:
            pictures = ["-framerate", rate, "-i", str(painted / "%06d.jpg")]
            call(*pictures, "-i", sound, "-pix_fmt", "yuv420p", "-c:a", "copy", str(target))

        stage_s = {stage.__name__: _seconds(stage) for stage in (extract, score, restitch)}
        return {"frames": len(list(painted.iterdir())), "stage_s": stage_s}


def _seconds(stage: Callable[[], None]) -> float:
    started = time.perf_counter()
    stage()
    return time.perf_counter() - started


def _rate(clip: Path) -> str:
    reader = imageio_ffmpeg.read_frames(str(clip))
    facts = next(reader)
    reader.close()
    return str(facts["fps"])


def main() -> None:
    """See the top of this file."""
    match sys.argv[1:]:
        case ["export", weights, model, *checkpoint]:
            export(Path(weights), Path(model), Path(checkpoint[0]) if checkpoint else None)
        case ["run", weights, clip, target]:
            print(json.dumps(run(load(Path(weights)), Path(clip), Path(target))))
        case ["paint", weights, frames, painted]:
            net = load(Path(weights))
            np.save(painted, np.stack([apply(net, picture) for picture in np.load(frames)]))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
