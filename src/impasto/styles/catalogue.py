"""The styles there are: those that ship inside the package, and the user's own.

A style is a folder named like it, with a card (card.json) and its networks as ONNX files.
"""

import dataclasses
import difflib
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from impasto.errors import RequestError
from impasto.runtimes.onnx_file import MAX_BYTES

CARD = "card.json"
MODEL = "style.onnx"
DEFAULT_QUALITY = "balanced"

_SHIPPED = Path(__file__).parent
_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_MAX_CARD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What a style's card says, and where the style stands."""

    name: str
    title: str = ""
    artist: str = ""
    year: str = ""
    """As a person writes it: "1889", "about 1810"."""
    source: str = ""
    licence: str = ""
    network: str = ""
    """Kind of network: painter, transformer, tiny or onnx."""
    parameters: int = 0
    preprocessing: str = ""
    multiple_of: int = 4
    """Height and width in pixels that the network takes divide by this; the runtime pads."""
    bytes: int
    """Of the network of the default quality."""
    sha256: str
    """Of the same, in hexadecimal."""
    trained: dict[str, Any] = field(default_factory=dict)
    qualities: dict[str, str]
    """Quality → file beside the card."""
    sha256_by_quality: dict[str, str] = field(default_factory=dict)
    """Of the qualities other than the default one."""
    shipped: bool = False
    """Whether it is part of the package; not in the card."""
    folder: Path = Path()
    """Where it stands; not in the card."""


def list_styles(user_styles: Path | None = None) -> tuple[Style, ...]:
    """Return every style: the shipped ones, then the user's own, each by name.

    Raises:
        RequestError: a card is damaged.
    """
    return tuple(
        _read_card(root / name, shipped=root == _SHIPPED)
        for root in _roots(user_styles)
        for name in _names(root)
    )


def find_style(
    name: str, quality: str = DEFAULT_QUALITY, *, user_styles: Path | None = None
) -> tuple[Style, bytes]:
    """Return a style and the bytes of its ONNX file for `quality`, checked against the card.

    Raises:
        RequestError: no such style or quality, or a damaged one.
    """
    roots = _roots(user_styles)
    found = [root / name for root in roots if name in _names(root)]
    if not found:
        raise RequestError(_unknown(name, [each for root in roots for each in _names(root)]))
    style = _read_card(found[0], shipped=found[0].parent == _SHIPPED)
    if quality not in style.qualities:
        known = ", ".join(style.qualities)
        raise RequestError(f"style '{name}' has no quality '{quality}'; it has: {known}")
    return style, _read_model(style, quality)


def check_name(name: str) -> str:
    """Return `name` if a style may be called so.

    Raises:
        RequestError: it is not 1 to 64 of a-z, 0-9, _ and -.
    """
    if not _NAME.fullmatch(name):
        raise RequestError(f"a style's name is 1 to 64 of a-z, 0-9, _ and -, got {name[:80]!r}")
    return name


def card_of(style: Style) -> bytes:
    """Return what stands in the card of `style`: JSON for people to read too."""
    values = dataclasses.asdict(style)
    del values["shipped"], values["folder"]
    return msgspec.json.format(msgspec.json.encode(values), indent=2) + b"\n"


def is_shipped(name: str) -> bool:
    """Whether a style of that name is part of the package."""
    return name in _names(_SHIPPED)


def _roots(user_styles: Path | None) -> list[Path]:
    # A user's style can't take the place of a shipped one: runs name styles, and are repeatable.
    return [_SHIPPED] if user_styles is None else [_SHIPPED, user_styles]


def _names(root: Path) -> list[str]:
    """Names of the styles under a folder, sorted; what has no card or no proper name is none."""
    try:
        return sorted(
            path.name
            for path in root.iterdir()
            if _NAME.fullmatch(path.name) and (path / CARD).is_file()
        )
    except OSError:  # no such folder yet
        return []


def _read_card(folder: Path, *, shipped: bool) -> Style:
    way_out = "remove the folder, or import the style again"
    try:
        with (folder / CARD).open("rb") as file:
            text = file.read(_MAX_CARD_BYTES)
        style = msgspec.json.decode(text, type=Style)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RequestError(f"{folder / CARD} can't be read: {error}; {way_out}") from error
    if style.name != folder.name:
        raise RequestError(f"{folder / CARD} is the card of '{style.name}'; {way_out}")
    if not style.qualities:
        raise RequestError(f"{folder / CARD} names no quality; {way_out}")
    return dataclasses.replace(style, shipped=shipped, folder=folder)


def _read_model(style: Style, quality: str) -> bytes:
    file = style.qualities[quality]
    path = style.folder / file
    if Path(file).name != file:
        raise RequestError(f"{style.folder / CARD}: '{file}' does not lie beside it")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RequestError(f"{path} has more than {MAX_BYTES} bytes")
        model = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path} can't be read: {error.strerror}") from error
    default = DEFAULT_QUALITY if DEFAULT_QUALITY in style.qualities else next(iter(style.qualities))
    digests = {default: style.sha256} | style.sha256_by_quality
    if hashlib.sha256(model).hexdigest() != digests.get(quality):
        raise RequestError(
            f"{path} is not the network that its card describes (the digests differ); "
            "install or import the style again"
        )
    return model


def _unknown(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name.lower(), names, n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"no style {name[:80]!r}; {hint}see: impasto styles list"
