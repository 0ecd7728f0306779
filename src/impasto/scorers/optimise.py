"""Style transfer by optimisation: the pixels themselves descend towards a painting's texture.

Gatys et al., "Image Style Transfer Using Convolutional Neural Networks" (CVPR 2016), coarse to fine
as in Gatys et al., arXiv:1611.07865, section 5; for a film each frame starts from the one before,
moved by optical flow, and is held to it (Ruder et al., arXiv:1604.08610, equations 7 and 8). The
losses are ratios (see `nets.texture`), so the weights suit any painting and perceptual network.
"""

import contextlib
import io
import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from impasto.errors import OutOfMemory, RequestError, RunFailed, Unavailable
from impasto.records import Frames, Optimise, ScorerSpec
from impasto.runtimes.cpu import free_memory_bytes, usable_cores
from impasto.runtimes.openvino import device_name
from impasto.scorers.flow import optical_flow, seen_in_both, warp

if TYPE_CHECKING:
    from torch import Tensor

    from impasto.nets.perceptual import Perceptual
    from impasto.nets.texture import Texture

STYLE_LAYERS = ("1_1", "2_1", "3_1", "4_1", "5_1")
CONTENT_LAYER = "4_2"
"""As Gatys et al. chose them; a network that is cut short gives what it has."""
LEAST_SIDE = 32
"""Pixels: conv5_1 sees two cells of it."""

_COARSEST_SIDE = 128
"""The shorter side is halved for a coarser start as long as this much is left."""
_BLOCK = 5
"""Iterations between two looks at the loss."""
_HISTORY = 10
"""Steps that L-BFGS remembers: each costs two pictures of memory."""
_LEVELS_PER_UNIT = 64.0
"""The unknowns are pixels divided by this: near 1, as the first step of L-BFGS supposes."""
_BOUNDS_WEIGHT = 100.0
"""Of the mean square by which pixels leave 0..255: what the last clamp cuts off would be missed."""
_SAME_SHOT = 0.5
"""Share of the pixels that must have been visible before; with less, it is another shot."""
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # Rec. ITU-R BT.709-6, item 3.2

BYTES_PER_PIXEL = 6000
"""Memory that a frame's feature maps take with their gradients: measured, rounded up."""


def pack(painting: NDArray[np.uint8], network: "Perceptual") -> bytes:
    """Return all that a worker needs, as one archive of arrays (.npz); the same for the same input.

    Args:
        painting: RGB, uint8, (H, W, 3).
        network: a VGG-19, whole or cut short; what lies deeper than is looked at stays out.
    """
    style, content = layers(network.names)
    last = max((*style, content), key=network.names.index)
    archive = io.BytesIO()
    # One file with both: its digest stands for both in the run's id.
    np.savez(archive, allow_pickle=False, painting=painting, **network.arrays(last))
    return archive.getvalue()


def layers(names: list[str]) -> tuple[tuple[str, ...], str]:
    """The layers of a network that style and content are compared at."""
    style = tuple(name for name in STYLE_LAYERS if name in names)
    return style, CONTENT_LAYER if CONTENT_LAYER in names else names[-1]


def open_optimiser(
    spec: ScorerSpec, archive: bytes, *, width: int, height: int, threads: int = 0
) -> "Optimiser":
    """Return the scorer for frames of `width` x `height` pixels; `threads` of 0 takes every core.

    Raises:
        RequestError: a setting out of range, or what it needs is not installed.
    """
    check_installed()
    return Optimiser(spec, archive, width=width, height=height, threads=threads)


def check_installed() -> None:
    """Raise Unavailable, one line that names the extra, when a package is missing."""
    try:
        import cv2  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise Unavailable(
            f"--method optimise needs: pip install 'impasto[optimise]' ({error.name} is missing)"
        ) from error


def software() -> str:
    """Name what decides about the last bits beside the settings."""
    import cv2

    return f"torch {version('torch')}, opencv {cv2.__version__}, {usable_cores()} threads"


def check_frames(width: int, height: int) -> None:
    """Raise RequestError when frames of this size are too small, or won't fit into memory."""
    if min(width, height) < LEAST_SIDE:
        raise RequestError(
            f"--method optimise needs frames of {LEAST_SIDE} pixels a side, got {width}x{height}"
        )
    needed, free = width * height * BYTES_PER_PIXEL, free_memory_bytes()
    if free is not None and needed > free:
        fits = math.sqrt(free / needed)
        raise RequestError(
            f"optimising frames of {width}x{height} takes about {needed / 1e9:.1f} GB of memory, "
            f"and {free / 1e9:.1f} GB are free; give --size {int(height * fits) // 2 * 2}p"
        )


class Optimiser:
    """Paints frame after frame by optimisation; see `protocols.Sequential`.

    Args:
        spec: what is applied, and how.
        archive: what `pack` returned.
        width: of the frames, pixels.
        height: likewise.
        threads: cores; 0 takes every one. Other numbers may give other last bits.
    """

    batch_size = 1

    def __init__(
        self, spec: ScorerSpec, archive: bytes, *, width: int, height: int, threads: int = 0
    ) -> None:
        import torch

        from impasto.nets.perceptual import Perceptual

        if spec.optimise is None:
            raise RequestError(f"scorer {spec.name!r} has no settings of an optimisation")
        self.losses: list[list[float]] = []
        """Of the last frame, by scale: the loss before each block of iterations, and at the end."""
        self.device = device_name()
        self.notes: list[str] = []
        self.on_step: Callable[[float], None] = lambda _: None
        self._spec, self._knobs = spec, spec.optimise
        self._threads = threads or usable_cores()
        self._sizes = scales(width=width, height=height)
        with np.load(io.BytesIO(archive), allow_pickle=False) as arrays:
            self._network = Perceptual.from_arrays(arrays)
            painting = _tensor(arrays["painting"])
        self._style, self._content = layers(self._network.names)
        if (self._content, len(self._style)) != (CONTENT_LAYER, len(STYLE_LAYERS)):
            self.notes.append(
                f"the perceptual network ends at conv{self._network.names[-1]}, so content is "
                f"compared at conv{self._content} and style up to conv{self._style[-1]}"
            )
        wanted = self._knobs.painting_size or max(width, height)
        with self._computing(), torch.no_grad():
            self._textures = [
                self._texture(_fit(painting, wanted * max(size) / max(width, height)))
                for size in self._sizes
            ]
        self._before: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None

    def __call__(self, frames: Frames, /) -> Frames:
        """Paint uint8 RGB frames (N, H, W, 3) that follow one another."""
        painted = np.empty_like(frames)
        with self._computing():
            for place, frame in enumerate(frames):
                picture = self._paint(frame)
                self._before = (frame.copy(), picture)
                painted[place] = _finish(frame, picture, self._spec)
        return painted

    def resume(self, state: bytes | None) -> None:
        """Go on behind the frame that `state` was taken after; None starts anew."""
        self._before = None
        if state:
            with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
                self._before = (arrays["source"], arrays["painted"])

    def state(self) -> bytes:
        """What the next frame starts from: the last one and its painting."""
        kept = io.BytesIO()
        if self._before is not None:
            np.savez(kept, source=self._before[0], painted=self._before[1])
        return kept.getvalue()

    def _paint(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        scene = _tensor(frame)
        held = self._held(frame)
        self.losses = []
        if held is None:  # coarse to fine
            picture = _fit(scene, max(self._sizes[0]))
            for number, size in enumerate(self._sizes):
                picture = _resized(picture, size)
                picture = self._descend(number, picture, _resized(scene, size), None)
        else:
            moved, seen = _tensor(held[0]), _tensor(held[1][..., None])
            picture = seen * moved + (1 - seen) * scene
            picture = self._descend(len(self._sizes) - 1, picture, scene, (moved, seen))
        if not bool(picture.isfinite().all()):
            raise RunFailed("the optimisation left all bounds; give a lower --style-weight")
        whole = picture[0].permute(1, 2, 0).round().numpy().astype(np.uint8)
        return np.ascontiguousarray(whole)

    def _held(
        self, frame: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """The painting before, moved to this frame, and where it can be trusted (0 or 1)."""
        if self._before is None:
            return None
        source, painted = self._before
        backward = optical_flow(frame, source)
        seen = seen_in_both(backward, optical_flow(source, frame))
        if seen.mean() < _SAME_SHOT:
            return None
        return warp(painted.astype(np.float32), backward), seen.astype(np.float32)

    def _descend(
        self, number: int, start: "Tensor", scene: "Tensor", held: "tuple[Tensor, Tensor] | None"
    ) -> "Tensor":
        """Optimise one scale: pictures (1, 3, h, w), RGB 0..255, in and out."""
        import torch

        with torch.no_grad():
            content = self._network(scene, (self._content,))[self._content]
        objective = _Objective(
            self._network, self._knobs, self._textures[number], content, self._content, held
        )
        unknown = ((start - 128) / _LEVELS_PER_UNIT).contiguous().requires_grad_()
        optimiser = torch.optim.LBFGS(
            [unknown],
            history_size=_HISTORY,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def closure() -> "Tensor":
            optimiser.zero_grad()
            loss = objective(unknown * _LEVELS_PER_UNIT + 128)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        losses: list[float] = []
        self.losses.append(losses)
        done, steps = 0, self._knobs.steps
        while done < steps:
            block = min(_BLOCK, steps - done)
            optimiser.param_groups[0]["max_iter"] = block
            optimiser.param_groups[0]["max_eval"] = 5 * block
            losses.append(float(optimiser.step(closure)))  # type: ignore[no-untyped-call]
            done += block  # a line search that found no end may have made it fewer
            self._tell(number, done / steps, alone=held is not None)
        with torch.no_grad():
            finished = (unknown * _LEVELS_PER_UNIT + 128).clamp(0, 255)
            losses.append(float(objective(finished)))
        return finished

    def _tell(self, number: int, share: float, *, alone: bool) -> None:
        """Say how much of a frame is done, scales weighted by their area."""
        areas = [float(h * w) for h, w in self._sizes]
        done = share if alone else (sum(areas[:number]) + share * areas[number]) / sum(areas)
        self.on_step(done)

    def _texture(self, painting: "Tensor") -> "dict[str, Texture]":
        from impasto.nets.texture import texture

        found = self._network(painting, self._style)
        return {name: texture(features) for name, features in found.items()}

    @contextlib.contextmanager
    def _computing(self) -> Generator[None]:
        """Set the number of threads for this while; a sum's last bits depend on it."""
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            yield
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            height, width = self._sizes[-1]
            raise OutOfMemory(
                f"no room to optimise frames of {width}x{height}; give a smaller --size"
            ) from error
        finally:
            torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class _Objective:
    """What is made small: style + content + distance from the moved painting before."""

    network: "Perceptual"
    knobs: Optimise
    textures: "Mapping[str, Texture]"
    content: "Tensor"
    content_layer: str
    held: "tuple[Tensor, Tensor] | None"

    def __call__(self, picture: "Tensor") -> "Tensor":
        import torch

        from impasto.nets.texture import content_loss, style_loss, texture

        # The network's convolutions are a fifth faster with channels last.
        rows = picture.contiguous(memory_format=torch.channels_last)
        features = self.network(rows, (*self.textures, self.content_layer))
        style = sum(
            style_loss(texture(features[name]), wanted).sum()
            for name, wanted in self.textures.items()
        )
        loss = self.knobs.style_weight * style / len(self.textures)
        content = content_loss(features[self.content_layer], self.content).sum()
        loss = loss + self.knobs.content_weight * content
        outside = (picture - picture.clamp(0, 255)) / 255
        loss = loss + _BOUNDS_WEIGHT * outside.square().mean()
        if self.held is not None and self.knobs.temporal_weight:
            moved, seen = self.held
            apart = (((picture - moved) / 255).square() * seen).mean()
            loss = loss + self.knobs.temporal_weight * apart
        result: Tensor = loss
        return result


def scales(*, width: int, height: int) -> list[tuple[int, int]]:
    """Heights and widths from the coarsest scale to the frame's own."""
    halvings = max(0, int(math.log2(max(1, min(width, height) / _COARSEST_SIDE))))
    return [
        (round(height / 2**power), round(width / 2**power)) for power in range(halvings, -1, -1)
    ]


def _tensor(picture: NDArray[Any]) -> "Tensor":
    """(H, W, C) → float32 (1, C, H, W)."""
    import torch

    return torch.from_numpy(np.array(picture, np.float32)).permute(2, 0, 1)[None]


def _fit(picture: "Tensor", longer: float) -> "Tensor":
    """Scale (1, 3, H, W) so that its longer side has about `longer` pixels."""
    height, width = picture.shape[-2:]
    share = longer / max(height, width)
    return _resized(
        picture, (max(LEAST_SIDE, round(height * share)), max(LEAST_SIDE, round(width * share)))
    )


def _resized(picture: "Tensor", size: tuple[int, int]) -> "Tensor":
    from torch.nn import functional

    if picture.shape[-2:] == size:
        return picture
    return functional.interpolate(picture, size, mode="bicubic", antialias=True).clamp(0, 255)


def _finish(
    frame: NDArray[np.uint8], picture: NDArray[np.uint8], spec: ScorerSpec
) -> NDArray[np.uint8]:
    """Strength and colours, as `scorers.network` does them."""
    if spec.strength == 1 and not spec.keep_colors:
        return picture
    source = frame.astype(np.float32)
    change = picture - source
    if spec.keep_colors:
        change = np.dot(change, _LUMA)[..., None]
    mixed = source + change * np.float32(spec.strength)
    return np.rint(mixed).clip(0, 255).astype(np.uint8)
