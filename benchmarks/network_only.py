"""The network alone, as a worker runs it: same scorer, batch, streams and precision, nothing else.

    python benchmarks/network_only.py MODEL.onnx CLIP SECONDS PRECISION FRAMES PAINTED

FRAMES and PAINTED are .npy files to write: what the network got first, and what it made of it.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

import numpy as np

from impasto.media.decode import FrameReader
from impasto.media.pixels import RgbReader
from impasto.media.probe import probe
from impasto.records import ScorerSpec
from impasto.scorers import open_scorer


def main() -> None:
    """Print frames per second as JSON."""
    model_path, clip, seconds, precision, asked, painted = sys.argv[1:]
    model, source = Path(model_path).read_bytes(), probe(Path(clip))
    spec = ScorerSpec("network", hashlib.sha256(model).hexdigest())
    width, height = source.display_width, source.display_height
    scorer = open_scorer(spec, model, width=width, height=height, precision=precision)
    to_rgb = RgbReader(source, width=width, height=height)
    stop = min(scorer.batch_size, len(source.ledger))
    with FrameReader(Path(clip), source) as reader:
        few = np.stack([to_rgb(frame) for frame in reader.read(0, stop)])
    batch = np.resize(few, (scorer.batch_size, *few.shape[1:]))
    np.save(asked, few[:1])
    np.save(painted, scorer(batch)[:1])  # the first call also allocates
    frames, started = 0, time.perf_counter()
    while time.perf_counter() - started < float(seconds):
        scorer(batch)
        frames += len(batch)
    rate = frames / (time.perf_counter() - started)
    print(json.dumps({"frames_per_s": rate, "batch": scorer.batch_size, "device": scorer.device}))


if __name__ == "__main__":
    main()
