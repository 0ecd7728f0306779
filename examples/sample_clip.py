"""Draw a short film to paint: `python examples/sample_clip.py OUT.mp4`.

Six seconds, 640x360, 24 frames per second, with sound: a village by a river at dusk (a slow pan and
zoom), then, after a hard cut, a harbour in the morning. Everything is drawn and played here, from
numpy alone, so the film is ours to give away.

The world is one unit high. What never moves is drawn once, on wide layers; a frame samples each
layer where the camera looks and adds what moves: clouds, sails, smoke, water, birds, a car.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
"""(H, W): coverage, noise or a coordinate."""
Canvas = NDArray[np.float32]
"""(H, W, 4): premultiplied RGBA, 0…1; or (H, W, 3) where nothing shows through."""
Colour = tuple[float, float, float]
Point = tuple[float, float]
Part = tuple[slice, slice]

RATE = 24
SECONDS = 6
HEIGHT, WIDTH = 360, 640
SAMPLE_RATE = 48_000
_ROWS = 400  # of a layer: a little more than a frame, for the zoom
_WIDE = 2.4  # width of a layer in units; a frame sees 16/9 of it


@dataclass(frozen=True, slots=True)
class View:
    """What the camera sees: a window of the world, and the frame it fills."""

    left: float
    top: float
    zoom: float
    height: int
    width: int

    @property
    def unit(self) -> float:
        """Pixels per unit of the world."""
        return self.zoom * self.height

    def x(self, world: float, depth: float = 1.0) -> float:
        """Pixel column of a world position on a layer that pans `depth` times as fast."""
        return (world - self.left * depth) * self.unit

    def y(self, world: float) -> float:
        """Pixel row of a world position."""
        return (world - self.top) * self.unit


# --- drawing ---------------------------------------------------------------------------------


def _sample(
    canvas: Canvas, window: tuple[float, float, float, float], rows: int, columns: int
) -> Canvas:
    """The (top, left, bottom, right) window of `canvas`, in its pixels, as (rows, columns)."""
    top, left, bottom, right = window
    for axis, start, stop, count in ((0, top, bottom, rows), (1, left, right, columns)):
        at = start + (np.arange(count) + 0.5) * (stop - start) / count - 0.5
        at = np.clip(at, 0, canvas.shape[axis] - 1.001)
        first = at.astype(np.intp)
        share = (at - first).astype(np.float32)
        share = share.reshape(-1, 1, 1) if axis == 0 else share.reshape(1, -1, 1)
        near, far = canvas.take(first, axis), canvas.take(first + 1, axis)
        canvas = near + (far - near) * share
    return canvas


def noise(rows: int, columns: int, cells: Point, seed: int, octaves: int = 4) -> Plane:
    """Cloudy noise, 0…1, float32 (rows, columns); `cells` is the coarsest grid, (down, across)."""
    rng = np.random.default_rng(seed)
    total = np.zeros((rows, columns), np.float32)
    for octave in range(octaves):
        down, across = (max(1, round(cell * 2**octave)) for cell in cells)
        grid = rng.random((down + 3, across + 3), dtype=np.float32)
        # Averaging neighbours first takes the corners off the linear interpolation.
        grid[1:-1, 1:-1] = (
            grid[1:-1, 1:-1] * 2 + grid[:-2, 1:-1] + grid[2:, 1:-1] + grid[1:-1, :-2]
        ) / 5
        window = (1.0, 1.0, down + 1.0, across + 1.0)
        total += _sample(grid[..., None], window, rows, columns)[..., 0] / 2**octave
    low, high = total.min(), total.max()
    scaled: Plane = (total - low) / max(high - low, 1e-6)
    return scaled


def _look(layer: Canvas, view: View, depth: float, drift: float = 0.0) -> Canvas:
    """The part of `layer` that `view` sees, (H, W, channels)."""
    scale = layer.shape[0]
    left, top = (view.left * depth + drift) * scale, view.top * scale
    span = scale / view.zoom
    right = left + span * view.width / view.height
    return _sample(layer, (top, left, top + span, right), view.height, view.width)


def _over(picture: Canvas, layer: Canvas) -> None:
    picture *= 1 - layer[..., 3:]
    picture += layer[..., : picture.shape[2]]


def _lay(canvas: Canvas, cover: Plane, colour: Colour | Canvas, at: Part | None = None) -> None:
    """Paint `colour` where `cover` says (0…1), over the whole canvas or the part `at`."""
    part = canvas if at is None else canvas[at]
    part *= 1 - cover[..., None]
    part[..., :3] += cover[..., None] * np.asarray(colour, np.float32)
    if canvas.shape[2] == 4:
        part[..., 3] += cover


def _around(canvas: Canvas, points: Sequence[Point], margin: float) -> Part | None:
    height, width = canvas.shape[:2]
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    left, right = max(0, int(min(xs) - margin)), min(width, int(max(xs) + margin) + 1)
    top, bottom = max(0, int(min(ys) - margin)), min(height, int(max(ys) + margin) + 1)
    return None if left >= right or top >= bottom else (slice(top, bottom), slice(left, right))


def _grid(at: Part) -> tuple[Plane, Plane]:
    y = np.arange(at[0].start, at[0].stop, dtype=np.float32)[:, None] + np.float32(0.5)
    x = np.arange(at[1].start, at[1].stop, dtype=np.float32)[None, :] + np.float32(0.5)
    return y, x


def polygon(
    canvas: Canvas, points: Sequence[Point], colour: Colour, rough: Plane | None = None
) -> None:
    """A convex polygon through `points`, (x, y) in pixels; `rough` (canvas-sized) varies it."""
    at = _around(canvas, points, 1.5)
    if at is None:
        return
    y, x = _grid(at)
    edges = list(zip(points, [*points[1:], points[0]], strict=True))
    turn = np.sign(sum(a[0] * b[1] - b[0] * a[1] for a, b in edges))
    cover = np.ones((y.shape[0], x.shape[1]), np.float32)
    for a, b in edges:
        dx, dy = b[0] - a[0], b[1] - a[1]
        inside = turn * (dx * (y - a[1]) - dy * (x - a[0])) / max(float(np.hypot(dx, dy)), 1e-6)
        cover = np.minimum(cover, np.clip(inside + 0.5, 0, 1)).astype(np.float32)
    tint = np.asarray(colour, np.float32)
    _lay(canvas, cover, tint if rough is None else tint * (0.72 + 0.56 * rough[at][..., None]), at)


def slab(
    canvas: Canvas,
    x: tuple[float, float],
    y: tuple[float, float],
    colour: Colour,
    rough: Plane | None = None,
) -> None:
    """A rectangle from x[0] to x[1] and y[0] to y[1], in pixels."""
    polygon(canvas, [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])], colour, rough)


def disc(
    canvas: Canvas,
    centre: Point,
    radius: Point,
    colour: Colour,
    *,
    soft: float = 1.0,
    strength: float = 1.0,
) -> None:
    """An ellipse of `radius` (x, y) pixels with an edge `soft` pixels wide."""
    (cx, cy), (rx, ry) = centre, radius
    at = _around(canvas, [(cx - rx, cy - ry), (cx + rx, cy + ry)], soft + 1)
    if at is None:
        return
    y, x = _grid(at)
    away = (np.hypot((x - cx) / rx, (y - cy) / ry) - 1) * min(rx, ry)
    _lay(canvas, (strength * np.clip(0.5 - away / soft, 0, 1)).astype(np.float32), colour, at)


def glow(picture: Canvas, centre: Point, radius: float, colour: Colour) -> None:
    """Add light that fades towards `radius` pixels."""
    at = _around(picture, [centre], radius)
    if at is None:
        return
    y, x = _grid(at)
    near = np.clip(1 - np.hypot(x - centre[0], y - centre[1]) / radius, 0, 1) ** 2
    picture[at] += near[..., None] * np.asarray(colour, np.float32)


def _dim(colour: Colour, by: float) -> Colour:
    return colour[0] * by, colour[1] * by, colour[2] * (by + 1) / 2 if by < 1 else colour[2] * by


# --- scenery ---------------------------------------------------------------------------------


def _empty(wide: float = _WIDE) -> Canvas:
    return np.zeros((_ROWS, round(_ROWS * wide), 4), np.float32)


def _sky(stops: Sequence[tuple[float, Colour]]) -> Canvas:
    canvas = _empty()
    rows = np.linspace(0, 1, _ROWS)
    for channel in range(3):
        shades = np.interp(rows, [s[0] for s in stops], [s[1][channel] for s in stops])
        canvas[..., channel] = shades[:, None]
    canvas[..., :3] *= 0.95 + 0.1 * noise(_ROWS, canvas.shape[1], (14, 10), 1)[..., None]
    canvas[..., 3] = 1
    return canvas


def _clouds(height: tuple[float, float], open_sky: float, lit: Colour, shade: Colour) -> Canvas:
    """Clouds between two heights; `open_sky` is the share of noise that stays blue."""
    canvas = _empty(3.0)
    rows, columns = canvas.shape[:2]
    body = noise(rows, columns, (6, 7), 5, 5)
    y = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    middle, half = (height[0] + height[1]) / 2, (height[1] - height[0]) / 2
    cover = np.clip((body - open_sky) * 5, 0, 1) * np.clip(1.3 - np.abs(y - middle) / half, 0, 1)
    # Where the noise falls away towards the light, the cloud is bright.
    slope = np.clip(0.5 + 7 * (body - np.roll(body, (-6, 5), (0, 1))), 0, 1)[..., None]
    colour = np.asarray(lit, np.float32) * slope + np.asarray(shade, np.float32) * (1 - slope)
    _lay(canvas, (0.92 * cover).astype(np.float32), colour.astype(np.float32))
    return canvas


def _ridge(base: float, swing: float, bumps: float, seed: int) -> Plane:
    """A skyline: height (from the top, in units) per column of a layer."""
    columns = round(_ROWS * _WIDE)
    line: Plane = base - swing * (noise(2, columns, (1, bumps), seed)[0] - np.float32(0.5))
    return line


def _land(canvas: Canvas, ridge: Plane, shades: tuple[Colour, Colour], seed: int) -> None:
    """Ground below `ridge`, from one shade down to another, patched and bladed."""
    rows, columns = canvas.shape[:2]
    depth = (np.arange(rows, dtype=np.float32) + 0.5)[:, None] - ridge[None, :] * rows
    down = np.clip(depth / (0.3 * rows), 0, 1)[..., None]
    top, bottom = (np.asarray(shade, np.float32) for shade in shades)
    patches = noise(rows, columns, (16, 12), seed, 5)
    blades = noise(rows, columns, (70, 170), seed + 1, 2)
    light = 0.62 + 0.55 * patches + 0.55 * (blades - 0.5)
    colour = (top * (1 - down) + bottom * down) * light[..., None]
    _lay(canvas, np.clip(depth + 0.5, 0, 1), colour.astype(np.float32))


def _tree(canvas: Canvas, foot: Point, size: float, leaf: Colour, seed: int) -> None:
    """A trunk and a hundred dabs of leaf, lighter towards the upper left; in units."""
    rng = np.random.default_rng(seed)
    x, y, r = foot[0] * _ROWS, foot[1] * _ROWS, size * _ROWS
    trunk = [(x - r * 0.07, y), (x - r * 0.04, y - r), (x + r * 0.04, y - r), (x + r * 0.07, y)]
    polygon(canvas, trunk, (0.20, 0.13, 0.10))
    for _ in range(110):
        angle, out = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
        dx, dy = 0.52 * out * np.cos(angle), 0.62 * out * np.sin(angle)
        light = 0.8 + 0.55 * (-dx - dy) + rng.uniform(-0.22, 0.22)
        dab = r * rng.uniform(0.07, 0.15)
        centre = (x + dx * r, y - 1.15 * r + dy * r)
        disc(canvas, centre, (dab, dab * 0.8), (leaf[0] * light, leaf[1] * light, leaf[2] * light))


def _house(canvas: Canvas, at: Point, width: float, wall: Colour, roof: Colour) -> None:
    """A gabled front, a long side to the right, lit windows; `at` is its lower left corner."""
    x, y, w = at[0] * _ROWS, at[1] * _ROWS, width * _ROWS
    rough = _plaster()
    eaves, top, end = y - 0.95 * w, y - 1.42 * w, x + 1.95 * w
    slab(canvas, (x + w, end), (eaves, y), _dim(wall, 0.62), rough)
    front = [(x, y), (x, eaves), (x + w / 2, top), (x + w, eaves), (x + w, y)]
    polygon(canvas, front, wall, rough)
    tiles = [(x + w / 2, top - 0.05 * w), (end - 0.4 * w, top - 0.05 * w)]
    tiles += [(end + 0.07 * w, eaves + 0.07 * w), (x + 1.07 * w, eaves + 0.07 * w)]
    polygon(canvas, tiles, roof, rough)
    for course in (0.3, 0.55, 0.8):
        level = top + (eaves - top) * course
        slab(canvas, (x + w * (0.5 + 0.55 * course), end - 0.4 * w * (1 - course)),
             (level, level + 0.9), _dim(roof, 0.7))  # fmt: skip
    gable = [(x + w / 2, top - 0.05 * w), (x + w / 2, top + 0.10 * w)]
    gable += [(x - 0.09 * w, eaves + 0.10 * w), (x - 0.09 * w, eaves - 0.01 * w)]
    polygon(canvas, gable, _dim(roof, 1.2))
    slab(canvas, (x + 1.15 * w, x + 1.3 * w), (top - 0.28 * w, top + 0.1 * w), _dim(wall, 0.55))
    for across, up in ((0.16, 0.5), (0.62, 0.5), (0.40, 1.0), (1.2, 0.5), (1.58, 0.5)):
        wx, wy, ww = x + across * w, y - up * w, 0.2 * w
        slab(canvas, (wx - 1, wx + ww + 1), (wy - ww * 1.3 - 1, wy + 1), (0.20, 0.13, 0.12))
        slab(canvas, (wx, wx + ww), (wy - ww * 1.3, wy), (1.0, 0.80, 0.36))
        slab(canvas, (wx + ww * 0.43, wx + ww * 0.57), (wy - ww * 1.3, wy), (0.30, 0.18, 0.12))
    slab(canvas, (x + 0.42 * w, x + 0.60 * w), (y - 0.38 * w, y), (0.30, 0.17, 0.12))


@cache
def _plaster() -> Plane:
    return noise(_ROWS, round(_ROWS * _WIDE), (80, 120), 8, 3)


# --- the village -----------------------------------------------------------------------------

_SHORE = 0.765
_MILL = (0.66, 0.40)
_WALLS = ((0.93, 0.82, 0.66), (0.86, 0.64, 0.50), (0.80, 0.78, 0.80), (0.90, 0.72, 0.48))
_ROOFS = ((0.66, 0.24, 0.16), (0.50, 0.22, 0.22), (0.40, 0.28, 0.34), (0.72, 0.34, 0.18))


@cache
def _village() -> tuple[Canvas, ...]:
    """Sky, clouds, mountains, hills, houses, bank: from the back to the front."""
    dusk = ((0.0, (0.13, 0.17, 0.38)), (0.20, (0.36, 0.30, 0.52)), (0.34, (0.85, 0.47, 0.42)))
    sky = _sky([*dusk, (0.45, (1.0, 0.74, 0.40)), (1.0, (0.95, 0.70, 0.50))])
    clouds = _clouds((0.02, 0.34), 0.40, (1.0, 0.64, 0.46), (0.42, 0.30, 0.48))
    mountains = _empty()
    _land(mountains, _ridge(0.40, 0.22, 5, 21), ((0.46, 0.37, 0.58), (0.80, 0.58, 0.58)), 22)
    hills = _empty()
    ridge = _ridge(0.50, 0.14, 3, 38)
    _land(hills, ridge, ((0.60, 0.60, 0.28), (0.30, 0.42, 0.24)), 32)
    rng = np.random.default_rng(4)
    for seed in range(40):
        x = rng.uniform(0.02, _WIDE - 0.05)
        y = float(ridge[int(x * _ROWS)]) + rng.uniform(0.01, 0.12)
        _tree(hills, (x, y), rng.uniform(0.03, 0.055), (0.34, 0.42, 0.20), seed)
    _mill(hills)
    return sky, clouds, mountains, hills, _houses(), _bank()


def _mill(canvas: Canvas) -> None:
    x, y, u = _MILL[0] * _ROWS, _MILL[1] * _ROWS, float(_ROWS)
    for left, tint in ((-1.0, (0.88, 0.78, 0.66)), (0.3, (0.58, 0.47, 0.48))):
        foot = [(x + 0.055 * left * u, y + 0.19 * u), (x + 0.032 * left * u, y)]
        polygon(
            canvas, [*foot, (x + 0.032 * u, y), (x + 0.055 * u, y + 0.19 * u)], tint, _plaster()
        )
    cap = [(x - 0.040 * u, y), (x, y - 0.06 * u), (x + 0.040 * u, y)]
    polygon(canvas, cap, (0.46, 0.20, 0.17), _plaster())
    disc(canvas, (x - 0.006 * u, y + 0.08 * u), (0.009 * u, 0.014 * u), (1.0, 0.82, 0.4))


def _houses() -> Canvas:
    canvas = _empty()
    _land(canvas, _ridge(0.62, 0.05, 4, 52), ((0.46, 0.48, 0.22), (0.28, 0.32, 0.17)), 53)
    rng = np.random.default_rng(12)
    for row, foot in enumerate((0.660, 0.712)):  # the row behind first
        for number in range(7):
            x = 0.06 + 0.31 * number + 0.15 * row + rng.uniform(-0.03, 0.03)
            if (number + row) % 2:
                _tree(canvas, (x - 0.04, foot + 0.005), 0.10, (0.42, 0.40, 0.17), number + 9 * row)
            if row == 0 and number == 3:
                _church(canvas, x - 0.075, foot)
            shade = _WALLS[(number + row) % 4], _ROOFS[(3 * number + row) % 4]
            _house(canvas, (x, foot), 0.068 + 0.018 * row, *shade)
    return canvas


def _church(canvas: Canvas, left: float, foot: float) -> None:
    x, y, w, u = left * _ROWS, foot * _ROWS, 0.055 * _ROWS, float(_ROWS)
    slab(canvas, (x, x + w), (y - 0.21 * u, y), (0.90, 0.82, 0.72), _plaster())
    slab(canvas, (x + 0.6 * w, x + w), (y - 0.21 * u, y), (0.62, 0.53, 0.56), _plaster())
    spire = [(x - 3, y - 0.21 * u), (x + w / 2, y - 0.35 * u), (x + w + 3, y - 0.21 * u)]
    polygon(canvas, spire, (0.30, 0.32, 0.44), _plaster())
    for up in (0.10, 0.165):
        disc(canvas, (x + w * 0.32, y - up * u), (w * 0.12, w * 0.22), (1.0, 0.80, 0.38))


def _bank() -> Canvas:
    """The near bank: grass, a road along the river, a stone wall."""
    canvas = _empty()
    wide = float(canvas.shape[1])
    _land(canvas, _ridge(0.715, 0.012, 9, 61), ((0.42, 0.42, 0.19), (0.26, 0.27, 0.15)), 62)
    for top, bottom, tint in (
        (0.728, 0.752, (0.52, 0.44, 0.44)),
        (0.752, 0.775, (0.44, 0.38, 0.38)),
    ):
        slab(canvas, (0, wide), (top * _ROWS, bottom * _ROWS), tint, _plaster())
    for course, level in enumerate((0.752, 0.760, 0.768)):
        slab(canvas, (0, wide), (level * _ROWS, level * _ROWS + 0.8), (0.26, 0.21, 0.24))
        for stone in range(4 * (course % 2), int(wide), 9):
            span = (level * _ROWS, (level + 0.008) * _ROWS)
            slab(canvas, (stone, stone + 0.9), span, (0.26, 0.21, 0.24))
    return canvas


def _paint_village(t: float, view: View) -> Canvas:
    sky, clouds, mountains, hills, houses, bank = _village()
    picture: Canvas = _look(sky, view, 0.1)[..., :3].copy()
    sun, unit = (view.x(1.20, 0.15), view.y(0.335 + 0.006 * t)), view.unit
    glow(picture, sun, 0.7 * unit, (0.32, 0.17, 0.02))
    _over(picture, _look(clouds, view, 0.2, 0.2 + 0.016 * t))
    disc(picture, sun, (0.045 * unit, 0.045 * unit), (1.0, 0.93, 0.66))
    glow(picture, sun, 0.22 * unit, (0.36, 0.24, 0.06))
    _over(picture, _look(mountains, view, 0.35))
    _over(picture, _look(hills, view, 0.6))
    _sails(picture, view, t)
    _over(picture, _look(houses, view, 0.85))
    _smoke(picture, view, t)
    _over(picture, _look(bank, view, 1.0))
    _car(picture, view, t)
    _flock(picture, view, t, (0.14, 0.12, 0.20))
    _river(picture, view, t)
    return picture


def _sails(picture: Canvas, view: View, t: float) -> None:
    x, y = view.x(_MILL[0], 0.6), view.y(_MILL[1] - 0.01)
    length = 0.125 * view.unit
    for blade in range(4):
        angle = 0.4 + 1.1 * t + blade * np.pi / 2
        sails = [((0.18, 1.0), (0.0, 0.20), (0.95, 0.87, 0.76))]
        sails += [
            ((r, r + 0.03), (0.0, 0.20), (0.45, 0.33, 0.33)) for r in (0.18, 0.38, 0.58, 0.78)
        ]
        sails += [((0.0, 1.0), (-0.02, 0.03), (0.30, 0.20, 0.20))]
        spin = length * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        for (near, far), (left, right), tint in sails:
            corners = np.array([(near, left), (far, left), (far, right), (near, right)]) @ spin
            polygon(picture, [(x + px, y + py) for px, py in corners.tolist()], tint)
    disc(picture, (x, y), (length * 0.07, length * 0.07), (0.22, 0.15, 0.15))


def _smoke(picture: Canvas, view: View, t: float) -> None:
    for source in (0.45, 1.08, 1.70):
        for puff in range(9):
            age = (puff + 1.4 * t) % 9 / 9
            x = view.x(source + 0.10 * age + 0.012 * np.sin(3 * age + source * 9 + t), 0.85)
            r = (0.008 + 0.026 * age) * view.unit
            centre = (x, view.y(0.555 - 0.17 * age))
            tint, fade = (0.82, 0.68, 0.68), 0.40 * (1 - age)
            disc(picture, centre, (r, 0.8 * r), tint, soft=2 * r, strength=fade)


def _car(picture: Canvas, view: View, t: float) -> None:
    x, y, u = view.x(0.45 + 0.24 * t), view.y(0.750), 1.15 * view.unit

    def put(outline: Sequence[Point], colour: Colour) -> None:
        polygon(picture, [(x + a * u, y + b * u) for a, b in outline], colour)

    for shift in (0.020, 0.077):
        disc(picture, (x + shift * u, y - 0.003 * u), (0.011 * u, 0.011 * u), (0.09, 0.08, 0.10))
    put([(0.016, -0.022), (0.030, -0.044), (0.064, -0.044), (0.080, -0.022)], (0.66, 0.11, 0.12))
    put([(0.024, -0.023), (0.033, -0.040), (0.061, -0.040), (0.072, -0.023)], (0.98, 0.80, 0.50))
    put([(0.0, -0.006), (0.002, -0.022), (0.094, -0.022), (0.098, -0.006)], (0.84, 0.16, 0.14))
    glow(picture, (x + 0.13 * u, y - 0.010 * u), 0.07 * u, (0.55, 0.48, 0.28))
    disc(picture, (x + 0.095 * u, y - 0.015 * u), (0.005 * u, 0.004 * u), (1.0, 0.96, 0.75))


def _flock(picture: Canvas, view: View, t: float, colour: Colour) -> None:
    rng = np.random.default_rng(9)
    for bird in range(9):
        x = view.x(0.25 + 0.085 * t + rng.uniform(0, 0.5), 0.3)
        y = view.y(0.19 + rng.uniform(-0.09, 0.07) + 0.008 * np.sin(2 * t + bird))
        size = rng.uniform(0.014, 0.026) * view.unit
        lift = size * 0.7 * np.sin(9 * t + bird * 1.7)
        for side in (-1, 1):
            elbow = (x + side * size * 0.5, y - 0.3 * size - 0.6 * lift)
            under = (x + side * size * 0.45, y - 0.08 * size - 0.45 * lift)
            polygon(picture, [(x, y), elbow, (x + side * size, y - lift), under], colour)


def _river(picture: Canvas, view: View, t: float) -> None:
    """Below the shore: the picture upside down, stirred, darkened, with streaks of light."""
    top = min(max(int(view.y(_SHORE)), 1), view.height - 1)
    y = np.arange(view.height - top, dtype=np.float32)[:, None]
    x = np.arange(view.width, dtype=np.float32)[None, :]
    near = (y + 4) / (view.height - top)
    world = x / view.unit + view.left
    stir = np.sin(60 * world / (0.5 + near) + 40 * np.sqrt(near) - 2.6 * t)
    stir = stir + 0.7 * np.sin(31 * world / (0.5 + near) - 66 * np.sqrt(near) + 3.4 * t)
    wave = stir + 0.8 * np.sin(110 * np.sqrt(near) + 2.2 * t + 5 * np.sin(9 * world))
    source = top - 1 - 2.2 * y - 0.022 * view.unit * near * wave
    aside = np.clip(x + 5 * near * stir, 0, view.width - 1).astype(np.intp)
    mirrored = picture[np.clip(source, 0, top - 1).astype(np.intp), aside]
    share = (0.25 + 0.28 * near)[..., None]
    water = mirrored * (1 - share) + np.array([0.09, 0.13, 0.24]) * share
    water += (np.clip(wave - 1.3, 0, 1) * 0.32)[..., None] * np.array([1.0, 0.72, 0.50])
    picture[top:] = water


# --- the harbour -----------------------------------------------------------------------------

_HORIZON = 0.47
_BOATS: tuple[tuple[Point, float, Colour, Colour], ...] = (
    # where, how high, sail, hull: the far ones first
    ((0.55, 0.515), 0.10, (0.96, 0.94, 0.88), (0.30, 0.32, 0.42)),
    ((0.98, 0.560), 0.17, (0.95, 0.58, 0.22), (0.45, 0.20, 0.16)),
    ((0.52, 0.760), 0.42, (0.97, 0.92, 0.82), (0.12, 0.28, 0.48)),
    ((1.30, 0.840), 0.36, (0.82, 0.22, 0.20), (0.90, 0.87, 0.80)),
)


@cache
def _harbour() -> tuple[Canvas, ...]:
    """Sky, clouds, far coast, headland with its lighthouse: from the back to the front."""
    morning = ((0.0, (0.20, 0.45, 0.78)), (0.3, (0.50, 0.72, 0.90)))
    sky = _sky([*morning, (0.48, (0.95, 0.90, 0.78)), (1.0, (0.9, 0.9, 0.8))])
    clouds = _clouds((0.06, 0.42), 0.34, (1.0, 0.98, 0.93), (0.62, 0.69, 0.80))
    coast = _empty()
    _land(coast, _ridge(0.445, 0.10, 6, 81), ((0.50, 0.60, 0.66), (0.42, 0.56, 0.54)), 82)
    coast[int((_HORIZON + 0.004) * _ROWS) :] = 0
    return sky, clouds, coast, _headland()


def _headland() -> Canvas:
    canvas, rock = _empty(), _empty()
    x = np.linspace(0, _WIDE, canvas.shape[1], dtype=np.float32)
    shape = 0.40 + 0.5 * np.clip(np.abs(x - 1.62) - 0.14, 0, 1) ** 1.1
    ridge = (shape + _ridge(0, 0.05, 16, 91)).astype(np.float32)
    _land(canvas, ridge, ((0.48, 0.62, 0.28), (0.50, 0.46, 0.30)), 92)
    lower = (ridge + 0.05 + _ridge(0, 0.06, 30, 93)).astype(np.float32)
    _land(rock, lower, ((0.78, 0.66, 0.54), (0.34, 0.28, 0.30)), 94)
    _over(canvas, rock)
    shore = _ridge(0.575, 0.03, 40, 95)
    y = np.linspace(0, 1, _ROWS, dtype=np.float32)[:, None]
    canvas *= np.clip((shore[None, :] - y) * _ROWS, 0, 1)[..., None]
    _lighthouse(canvas)
    _house(canvas, (1.70, 0.425), 0.07, (0.95, 0.92, 0.86), (0.74, 0.30, 0.20))
    for seed, place in enumerate((1.46, 1.50, 1.68, 1.86, 1.91)):
        _tree(canvas, (place, 0.45 + 0.01 * (seed % 2)), 0.07, (0.30, 0.50, 0.22), seed)
    return canvas


def _lighthouse(canvas: Canvas) -> None:
    u, x, foot, top = float(_ROWS), 1.58 * _ROWS, 0.435 * _ROWS, 0.13 * _ROWS
    for band in range(6):
        a, b = band / 6, (band + 1) / 6
        wide = ((0.044 - 0.017 * a) * u, (0.044 - 0.017 * b) * u)
        level = (foot + (top - foot) * a, foot + (top - foot) * b)
        tint: Colour = (0.97, 0.95, 0.90) if band % 2 else (0.84, 0.20, 0.17)
        for left, shade in ((-1.0, tint), (0.35, _dim(tint, 0.7))):
            side = [(x + left * wide[0], level[0]), (x + left * wide[1], level[1])]
            points = [*side, (x + wide[1], level[1]), (x + wide[0], level[0])]
            polygon(canvas, points, shade, _plaster())
    slab(canvas, (x - 0.036 * u, x + 0.036 * u), (top - 0.012 * u, top), (0.25, 0.27, 0.32))
    slab(canvas, (x - 0.02 * u, x + 0.02 * u), (top - 0.054 * u, top - 0.012 * u), (1.0, 0.93, 0.6))
    for bar in (-0.02, -0.007, 0.007, 0.018):
        span = (x + bar * u, x + bar * u + 1)
        slab(canvas, span, (top - 0.054 * u, top - 0.012 * u), (0.25, 0.27, 0.32))
    cap = [(x - 0.028 * u, top - 0.052 * u), (x, top - 0.09 * u), (x + 0.028 * u, top - 0.052 * u)]
    polygon(canvas, cap, (0.62, 0.16, 0.15))


def _paint_harbour(t: float, view: View) -> Canvas:
    sky, clouds, coast, headland = _harbour()
    picture: Canvas = _look(sky, view, 0.1)[..., :3].copy()
    _over(picture, _look(clouds, view, 0.2, 0.5 + 0.02 * t))
    _over(picture, _look(coast, view, 0.4))
    _sea(picture, view, t)
    _over(picture, _look(headland, view, 0.8))
    for number, ((x, y), size, sail, hull) in enumerate(_BOATS):
        at = (x + (0.020 - 0.009 * number) * t, y + 0.03 * size * np.sin(1.7 * t + number))
        _boat(picture, (view.x(at[0]), view.y(at[1])), size * view.unit, (sail, hull), t + number)
    _flock(picture, view, t, (0.97, 0.97, 0.98))
    return picture


def _sea(picture: Canvas, view: View, t: float) -> None:
    """Rows below the horizon: swell in perspective, foam, and the sun's glitter."""
    top = min(max(int(view.y(_HORIZON)), 1), view.height - 1)
    y = (np.arange(view.height - top, dtype=np.float32)[:, None] + 1) / view.unit
    x = np.arange(view.width, dtype=np.float32)[None, :] / view.unit + view.left
    far = 0.30 / (y + 0.06)  # distance, as perspective has it
    across = (x - 0.9) * far * 2.2
    bend = 0.8 * np.sin(1.3 * across + 0.5 * t) + 0.5 * np.sin(2.9 * across - 2.1 * far)
    swell = np.sin(17 * far + bend + 1.8 * t) + 0.6 * np.sin(
        29 * far - 1.9 * across + bend + 2.7 * t
    )
    chop = np.sin(47 * far + 5.3 * across - 3.1 * t + bend) * np.sin(
        9.1 * across + 1.7 * t + 13 * far
    )
    chop = chop + 0.7 * np.sin(83 * far - 11 * across + 4 * t + 2 * bend)
    # Waves narrower than a pixel would only flicker.
    height = (0.5 * swell + 0.5 * chop) * np.clip(y / 0.10, 0, 1)
    depth = np.clip(y / 0.5, 0, 1)[..., None] ** 0.6
    water = np.array([0.58, 0.76, 0.78]) * (1 - depth) + np.array([0.04, 0.30, 0.44]) * depth
    water = water * (1 + 0.26 * height[..., None])
    foam = np.clip(height - 0.72, 0, 1) * 0.7
    glitter = np.clip(chop - 0.75, 0, 1) * np.exp(-(((x - 0.85) / (0.10 + y)) ** 2)) * 1.6
    picture[top:] = water + (foam + glitter)[..., None] * np.array([1.0, 0.98, 0.9])


def _boat(picture: Canvas, at: Point, s: float, tints: tuple[Colour, Colour], t: float) -> None:
    """A sloop `s` pixels high, heeling and bobbing; `tints` are of sail and hull."""
    (sail, hull), (x, y) = tints, at
    lean = 0.07 * np.sin(1.3 * t) + 0.05
    for row in range(10):  # the broken reflection
        mix = sail if row > 2 else hull
        centre = (x + 0.05 * s * np.sin(3 * t + row * 1.3), y + s * (0.03 + row * 0.036))
        half = 0.30 * s * (1 - row / 12) * (0.7 + 0.3 * np.sin(5 * t + row * 2.1))
        tint = (0.5 * mix[0] + 0.04, 0.5 * mix[1] + 0.15, 0.5 * mix[2] + 0.2)
        disc(picture, centre, (max(half, 1), max(s * 0.013, 0.6)), tint, soft=1.5, strength=0.75)

    def put(outline: Sequence[Point], colour: Colour) -> None:
        polygon(picture, [(x + s * (a - lean * b), y + s * b) for a, b in outline], colour)

    put([(-0.013, -0.05), (-0.010, -1.0), (0.010, -1.0), (0.013, -0.05)], (0.36, 0.24, 0.16))
    put([(0.03, -0.97), (0.03, -0.12), (0.38, -0.12), (0.20, -0.55)], sail)
    put([(0.03, -0.97), (0.03, -0.12), (0.14, -0.12), (0.09, -0.60)], _dim(sail, 0.84))
    put([(-0.03, -0.90), (-0.03, -0.12), (-0.31, -0.12)], _dim(sail, 0.93))
    for seam in (0.28, 0.44, 0.60, 0.76):
        edge = 0.43 - 0.42 * seam
        put([(0.03, -seam), (edge, -seam), (edge, -seam - 0.007), (0.03, -seam - 0.007)],
            _dim(sail, 0.7))  # fmt: skip
    put([(-0.36, -0.10), (0.38, -0.10), (0.27, 0.035), (-0.26, 0.035)], hull)
    put([(-0.36, -0.10), (0.38, -0.10), (0.37, -0.075), (-0.345, -0.075)], (0.95, 0.93, 0.88))


# --- film and sound --------------------------------------------------------------------------


@cache
def _film_grain(height: int, width: int) -> Plane:
    grain = np.random.default_rng(3).normal(0, 0.012, (height + 16, width + 16))
    return grain.astype(np.float32)


def render(frame_index: int, frame_count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Frame `frame_index` of `frame_count`, uint8 (height, width, 3), RGB; made for 16:9."""
    if not 0 <= frame_index < frame_count:
        raise ValueError(f"frame_index must be within 0…{frame_count - 1}, got {frame_index}")
    cut = SECONDS / 2
    t = SECONDS * frame_index / frame_count
    village = t < cut
    share = t / cut if village else t / cut - 1
    # Slow at both ends, so that the pan neither starts nor stops with a jerk.
    eased = share * share * (3 - 2 * share)
    zoom = 1.0 + 0.12 * eased if village else 1.14 - 0.12 * eased
    left = 0.06 + 0.34 * eased if village else 0.12 + 0.26 * eased
    # The zoom stays on the houses, or on the lantern of the lighthouse.
    top = (1 - 1 / zoom) * (0.6 if village else 0.2)
    view = View(left, top, zoom, height, width)
    picture = _paint_village(t, view) if village else _paint_harbour(t, view)
    dy, dx = (frame_index * 5) % 16, (frame_index * 11) % 16
    picture += _film_grain(height, width)[dy : dy + height, dx : dx + width, None]
    frame: NDArray[np.uint8] = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    return frame


def sound() -> NDArray[np.float32]:
    """A plucked tune over wind, float32 (2, samples), 48 kHz."""
    count = SECONDS * SAMPLE_RATE
    out = np.zeros((2, count))
    # MIDI note numbers, a quarter of a second each.
    tune = [57, 64, 69, 72, 71, 64, 67, 69, 62, 65, 69, 74]
    tune += [72, 69, 67, 64, 60, 67, 72, 76, 74, 72, 69, 69]
    for step, pitch in enumerate(tune):
        start = step * count // len(tune)
        t = np.arange(min(count - start, 2 * SAMPLE_RATE)) / SAMPLE_RATE
        turn = 2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * t
        partials = [np.sin(turn * k) * np.exp(-t * (2.2 + 1.3 * k)) / k**1.4 for k in range(1, 6)]
        note = 0.32 * np.minimum(t / 0.004, 1) * np.sum(partials, axis=0)
        right = 0.5 + 0.35 * np.sin(step * 0.9)
        out[0, start : start + len(t)] += (1 - right) * note
        out[1, start : start + len(t)] += right * note
    hertz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    for channel in range(2):
        spectrum = np.fft.rfft(np.random.default_rng(channel).normal(0, 1, count))
        wind = np.fft.irfft(spectrum * np.exp(-(((hertz - 320) / 240) ** 2)), count)
        gusts = 0.6 + 0.4 * np.sin(4 * np.pi * np.arange(count) / count + channel)
        out[channel] += 0.035 * gusts * wind / wind.std()
    ends = np.minimum(np.arange(count), np.arange(count)[::-1]) / (0.05 * SAMPLE_RATE)
    return (out * np.minimum(ends, 1)).astype(np.float32)


def write(path: Path) -> None:
    """Write the film to `path`: H.264 with B-frames and AAC, tagged BT.709."""
    frames, bt709, limited = SECONDS * RATE, 1, 1
    settings = {"crf": "17", "preset": "fast", "bf": "3"}
    with av.open(str(path), "w", container_options={"movflags": "faststart"}) as container:
        picture = container.add_stream("libx264", rate=RATE, options=settings)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        context = picture.codec_context
        context.colorspace = context.color_primaries = context.color_trc = bt709
        context.color_range = limited
        voice = container.add_stream("aac", rate=SAMPLE_RATE, bit_rate=160_000)
        for index in range(frames):
            drawn = av.VideoFrame.from_ndarray(render(index, frames, HEIGHT, WIDTH), "rgb24")
            frame = drawn.reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            frame.colorspace = frame.color_primaries = frame.color_trc = bt709
            frame.color_range = limited
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        heard = av.AudioFrame.from_ndarray(sound(), "fltp", "stereo")
        heard.sample_rate, heard.time_base, heard.pts = SAMPLE_RATE, Fraction(1, SAMPLE_RATE), 0
        container.mux([*voice.encode(heard), *voice.encode(None)])


def main() -> None:
    """Write the film to the path given on the command line."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python examples/sample_clip.py OUT.mp4")
    write(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
