"""What is compared: styles, published checkpoints, ONNX files, and styles still in training.

A candidate is written as a word:

    udnie                 a style, at each quality asked for
    candy.pth             a published checkpoint that `impasto styles import` takes, or ONNX file
    checkpoint.pt#3       row 3 of the style vectors in a training's checkpoint

and `@0.5` behind any of them means half its strength.
"""

import hashlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from impasto.errors import RequestError
from impasto.nets.export import export_onnx
from impasto.nets.painter import SIZES, Painter, PainterConfig, plain_style
from impasto.protocols import Scorer
from impasto.records import Frames, ScorerSpec
from impasto.scorers import open_scorer
from impasto.styles import Vector, find_style, import_checkpoint
from impasto.styles.vectors import bind_style, mix
from impasto.train.loop import read_checkpoint

_ROW = re.compile(r"(?P<path>.+)#(?P<row>\d+)")
_STRENGTH = re.compile(r"(?P<rest>.+)@(?P<strength>[\d.]+)")


class Candidate:
    """A network that paints frames of any size: a `Score` with a name."""

    def __init__(
        self, name: str, model: bytes, *, strength: float = 1.0, precision: str = "f32"
    ) -> None:
        """`model` is an ONNX file, frames to frames; `strength` the painted pixels' share.

        Raises RequestError for a strength outside 0..1.
        """
        if not 0 <= strength <= 1:
            raise RequestError(f"strength must be within 0..1, got {strength:g} for {name}")
        self.name = name
        self.model = model
        self.spec = ScorerSpec(name, hashlib.sha256(model).hexdigest(), strength=strength)
        self.precision = precision
        self._network: Scorer | None = None
        self._size = (0, 0)

    def __call__(self, frames: Frames, /) -> Frames:
        """Paint uint8 RGB frames (N, H, W, 3). Raises as `open_scorer` does."""
        height, width = frames.shape[1:3]
        if self._network is None or self._size != (height, width):
            self._network, self._size = None, (height, width)
            self._network = open_scorer(
                self.spec, self.model, width=width, height=height, precision=self.precision
            )
        return self._network(frames)

    def close(self) -> None:
        """Let go of the compiled network; the next call compiles it again."""
        self._network = None


def open_candidates(
    words: Sequence[str],
    *,
    qualities: Sequence[str] = (),
    strengths: Sequence[float] = (),
    precision: str = "f32",
    user_styles: Path | None = None,
) -> list[Candidate]:
    """Read what the words name.

    Args:
        words: as described above.
        qualities: of named styles; none for the default one.
        strengths: add each candidate at each of these strengths, once with its pixels mixed with
            the source's (`@0.5`) and, for a checkpoint, once with its vector mixed with the last
            one (`~0.5`), which is the identity's where the training had one.
        precision: "f32" or "bf16".
        user_styles: the folder of the user's own styles.

    Raises:
        RequestError: one cannot be read, or two have the same name.
    """
    found = []
    for asked in words:
        parts = _STRENGTH.fullmatch(asked)
        word, own = (parts["rest"], [float(parts["strength"])]) if parts else (asked, [])
        for painter in _painters(word, qualities, user_styles):
            for strength in own or [1.0, *strengths]:
                name = painter.name + (f"@{strength:g}" if strength != 1 else "")
                found.append(Candidate(name, painter.model, strength=strength, precision=precision))
            if painter.at is not None and not own:
                found += [
                    Candidate(f"{painter.name}~{each:g}", painter.at(each), precision=precision)
                    for each in strengths
                ]
    names = [candidate.name for candidate in found]
    if len({*names}) < len(names):
        raise RequestError(f"what is compared needs different names, got {', '.join(names)}")
    return found


def read_painters(path: Path) -> tuple[bytes, list[Vector]]:
    """The network and the style vectors in a training's checkpoint.

    Returns the ONNX file with the inputs "frames" and "style", and float32 (K,) per style.

    Raises:
        RequestError: it is not such a checkpoint, or its network is of no known form.
    """
    learned = read_checkpoint(path)["learned"]
    try:
        styles = learned["styles"]
        net = Painter(_config_of(learned))
        net.load_state_dict({name: learned[name] for name in net.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise RequestError(
            f"checkpoint {path} holds no network with style vectors; give that of a training that "
            "taught a network"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "network.onnx"
        export_onnx(net, model, style=plain_style(net.config)[None])
        return model.read_bytes(), list(styles.float().numpy())


def _config_of(weights: Mapping[str, Tensor]) -> PainterConfig:
    """The shipped size that has these weights' widths, or one of default depth."""
    width, head = weights["stem.weight"].shape[0], weights["narrow.weight"].shape[0]
    blocks = len({key.split(".")[1] for key in weights if key.startswith("head_blocks.")})
    wanted = PainterConfig(channels=width, head_channels=head, head_blocks=blocks)
    # Dilations leave no trace in the weights; their number does, and loading would fail.
    return next((size for size in SIZES.values() if size == wanted), wanted)


@dataclass(frozen=True, slots=True)
class _Painter:
    """What a word without a strength names."""

    name: str
    model: bytes
    at: Callable[[float], bytes] | None = None
    """Strength -> a model whose vector is mixed with the identity's."""


def _painters(word: str, qualities: Sequence[str], user_styles: Path | None) -> list[_Painter]:
    row, path = _ROW.fullmatch(word), Path(word)
    if row:
        return [_row(Path(row["path"]), int(row["row"]))]
    if path.suffix.lower() == ".onnx":
        try:
            return [_Painter(_title(path), path.read_bytes())]
        except OSError as error:
            raise RequestError(f"style {path} can't be read: {error.strerror}") from error
    if path.suffix:
        with tempfile.TemporaryDirectory() as folder:
            import_checkpoint(path, name="candidate", user_styles=Path(folder))
            return [_Painter(path.stem, find_style("candidate", user_styles=Path(folder))[1])]
    if not qualities:
        return [_Painter(word, find_style(word, user_styles=user_styles)[1])]
    return [
        _Painter(
            f"{word} {quality}" if len(qualities) > 1 else word,
            find_style(word, quality, user_styles=user_styles)[1],
        )
        for quality in qualities
    ]


def _row(path: Path, row: int) -> _Painter:
    network, vectors = read_painters(path)
    if row >= len(vectors):
        raise RequestError(f"{path} has {len(vectors)} style vectors, counted from 0; got #{row}")

    def at(strength: float) -> bytes:
        weights = {"style": strength, "identity": 1 - strength}
        both = {"style": vectors[row], "identity": vectors[-1]}
        return bind_style(network, mix(both, weights))

    name = f"{path.parent.name or path.stem}#{row}"
    return _Painter(name, bind_style(network, vectors[row]), at)


def _title(path: Path) -> str:
    """An ONNX file's own name, or its folder's where that is a style's."""
    return path.parent.name if path.stem == "style" and path.parent.name else path.stem
